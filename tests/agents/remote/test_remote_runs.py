"""Runs on a remote worker: the real CLI there, the supervisor here, everything between them real. See test_live too."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection
from django.utils import timezone

from agents.models import Run, RunEvent
from agents.remote.runtime import runtime_of
from agents.sandboxes import repository
from agents.states import RunStatus, WorkerStatus
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.supervise import supervise
from projects.roles import Role
from projects.states import TaskKind
from tests.agents.remote.conftest import Far, web
from tests.agents.supervisor.line import (
    hand_out,
    is_ready_again,
    seed,
    task_of,
    transcript_of,
    wait_until,
)

LONG_S = 180.0  # on a machine that does much else
pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]


def begin(run: Run, keeper: LeaseKeeper) -> threading.Thread:
    """Supervise a run in a thread, as a worker of the server does."""

    def work() -> None:
        try:
            supervise(run.pk, keeper=keeper, runtime=runtime_of(run.pk), clock=timezone.now)
        finally:
            connection.close()

    thread = threading.Thread(target=work, name=f"supervise-{run.pk}")
    thread.start()
    return thread


def ended(run: Run, thread: threading.Thread) -> Run:
    thread.join(LONG_S)
    assert not thread.is_alive()
    found: Run = Run.objects.select_related("task").get(pk=run.pk)
    return found


def at_work(far: Far, keeper: LeaseKeeper, order: str) -> tuple[Run, threading.Thread]:
    """A run whose agent is in the middle of its work, and waits for a model that stalls."""
    task = task_of(TaskKind.BUILD, Role.DEVELOPER, order=order)
    seed(task.project)
    (run,) = hand_out(task)
    thread = begin(run, keeper)
    read = RunEvent.objects.filter(run=run, kind="tool_result")
    wait_until(lambda: read.count() >= 2 or not thread.is_alive(), deadline_s=LONG_S)
    assert thread.is_alive(), far.said
    return run, thread


def test_a_run_outlives_its_workers_connection(port: int, join: Callable[[str], Far], keeper: LeaseKeeper) -> None:
    with web(port):
        far = join("cut-off")
        run, thread = at_work(far, keeper, "stall after=3 times=1 delay=3")
    wait_until(lambda: "the connection was lost" in far.said)
    assert Run.objects.get(pk=run.pk).status == RunStatus.RUNNING

    with web(port):
        done = ended(run, thread)

    assert done.status == RunStatus.SUCCEEDED, (done.reason, done.detail, far.said)
    lines = transcript_of(done)
    assert len([line for line in lines if line.kind == "result"]) == 1


def test_a_worker_that_is_stopped_hands_its_run_over(
    port: int, join: Callable[[str], Far], keeper: LeaseKeeper
) -> None:
    with web(port):
        far = join("stopping")
        run, thread = at_work(far, keeper, "stall after=3 times=1")

        (far.var / "runs" / str(run.pk) / "workspace" / "half.txt").write_text("half of it")
        assert far.stop() == 0, far.said

        done = ended(run, thread)
        assert (done.status, done.reason) == (RunStatus.CANCELLED, "worker_stopping"), far.said
        assert is_ready_again(done.task, attempts=0)
        kept = done.checkpoints.get()
        assert done.task.context["checkpoint"] == kept.file_snapshot
        tree = repository(done.project_id).tree_sha
        assert tree(kept.state["commit"]) != tree(done.base_commit), "what was written there is in it"
        assert far.worker.status == WorkerStatus.OFFLINE
