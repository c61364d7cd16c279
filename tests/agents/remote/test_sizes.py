"""Runs whose files are more than go to a remote worker and back: what becomes of them, and what people are told."""

import asyncio
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from agents.actions.leases import Held
from agents.models import Run
from agents.remote import files
from agents.sandboxes import run_directory
from agents.states import RunStatus
from agents.supervisor import supervise
from agents.supervisor.keeper import Stop
from agents.worker.execution import Execution, Host
from agents.worker.program import Program
from agents.worker.program import Settings as OfProgram
from agents.worker.server import Refused
from tests.agents.remote.joined import Machine
from tests.agents.remote.test_endings_there import no_doors
from tests.factories import RunFactory, TaskFactory

RUN, REQUEST = "00000000-0000-0000-0000-000000000001", "0" * 32


@pytest.fixture
def run(machine: Machine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run at work on a remote worker, where 2,000 bytes are the most."""
    monkeypatch.setattr(files, "MOST_ARCHIVE_BYTES", 2_000)
    settings.EKLAVYA_VAR = tmp_path
    task = TaskFactory(status="in_progress", project__status="building")
    made: Run = RunFactory(status="running", worker=machine.worker, task=task)
    (run_directory(made.pk) / "workspace").mkdir(parents=True)
    return made


@pytest.mark.django_db
def test_a_run_does_not_begin_with_more_than_would_come_back(run: Run) -> None:
    (run_directory(run.pk) / "workspace/data").write_bytes(os.urandom(3_000))
    with pytest.raises(files.FilesTooLarge, match="goes to a remote worker"):
        files.give(run.pk)
    files.fetch_last(run)  # nothing is there that could be waited for


@pytest.mark.django_db(transaction=True)
def test_what_is_too_large_to_come_back_is_said_as_often_as_asked(
    run: Run, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(groups: list[str], message: dict[str, Any]) -> None:
        request = message["frame"]["data"]["request"]
        address = reverse("api_run_files", args=[run.pk]) + f"?request={request}&offset=0"
        answer = machine.client.put(address, b"x" * 2_001, content_type="application/octet-stream")
        assert answer.status_code == 409

    monkeypatch.setattr(files, "send", send)
    files.mark_begun(run.pk)
    for _ in range(2):
        with pytest.raises(files.FilesTooLarge, match="comes back from a remote worker"):
            files.fetch_last(run)


@pytest.mark.django_db
@pytest.mark.parametrize("is_moved", [False, True])
def test_files_that_were_being_taken_in_when_everything_ended_are_taken_in(run: Run, is_moved: bool) -> None:
    files.mark_begun(run.pk)
    work, place = run_directory(run.pk) / "workspace", files.incoming(run.pk)
    work.rename(place / "old")
    new = work if is_moved else place / "new/workspace"
    new.mkdir(parents=True)
    (new / "made").touch()
    for _ in range(2):
        files.fetch_last(run)
        assert (work / "made").exists()
    assert not (place / "old").exists()


@pytest.mark.django_db
def test_it_costs_an_attempt_and_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(*_: object, **__: object) -> None:
        raise files.FilesTooLarge(goes_out=False)

    monkeypatch.setattr(supervise, "_prepared", prepared)
    runtime: Any = None
    supervise._work_or_fail(Held(run, ""), Stop(), None, runtime=runtime, clock=timezone.now, expect=supervise.ignore)
    done = Run.objects.select_related("task").get(pk=run.pk)
    assert (done.status, done.reason, done.task.attempts) == (RunStatus.FAILED, "files_too_large", 1)
    assert "Keep built files and data out of it" in done.task.context["failure"]["detail"]


def test_what_the_server_refuses_stays_until_the_run_is_over_there(tmp_path: Path) -> None:
    said: list[str] = []

    async def give_back(run_id: str, request: str, archive: Path) -> None:
        raise Refused(409, "The files of a run have at most 67,108,864 bytes as an archive.")

    async def has_nothing(run_id: str, request: str) -> None:
        said.append("nothing is here")

    async def play() -> None:
        runtime: Any = SimpleNamespace(kill=lambda name: None, remove_directory=shutil.rmtree)
        server: Any = SimpleNamespace(give_back=give_back, has_nothing=has_nothing)
        program = Program(OfProgram("http://server.invalid", "key", "name", tmp_path))
        program._host = host = Host(tmp_path, runtime, server, no_doors, program.send)
        program._runs[RUN] = Execution(RUN, {"context": {"name": "run-x", "project": "p"}}, host)
        work = host.directory(RUN) / "workspace"
        work.mkdir(parents=True)
        for _ in range(2):  # the server asks once a second until it has an answer
            program._cancelled(RUN, REQUEST)
            await asyncio.gather(*program._tasks)
        assert (work.exists(), program.running(), said) == (True, [RUN], [])
        program._cancelled(RUN, "")  # as a heartbeat's answer has it
        await asyncio.gather(*program._tasks)
        assert (work.exists(), program.running()) == (False, [])
        await program.server.close()

    asyncio.run(play())
