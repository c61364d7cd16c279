"""Remote workers behind a real worker of Celery's: what is sent goes through the queue, and what dies is killed."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from typing import Any

import docker
import httpx
import psutil
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.roles import AccountRole
from accounts.scopes import Scope
from agents.models import Pulse, Run, RunEvent, Worker
from agents.sandboxes import network_name, repository, run_directory
from agents.states import RunStatus, WorkerStatus
from eklavya.celery import app
from projects.models import AuditLog, Task
from projects.roles import Role
from projects.states import TaskKind, TaskStatus
from tests.accounts.making import bearer, key_of, person
from tests.agents.remote.conftest import Far, web
from tests.agents.remote.joined import refusals
from tests.agents.supervisor.line import (
    assert_nothing_is_left,
    seed,
    task_of,
    transcript_of,
    wait_until,
)
from tests.factories import NOW, PulseFactory

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
Join = Callable[..., Far]
Supervising = Callable[[], AbstractContextManager[Any]]
LONG_S, LOOK_S, POLL_S = 180.0, 5.0, 0.05


def ask(name: str) -> None:
    """Send a message by the real broker."""
    app.send_task(f"agents.tasks.{name}")


def notice_the_dead(run: Run) -> None:
    """Have the sweep look, in a house that was up for long, until the run has ended."""

    def is_over() -> bool:
        now = timezone.now()
        Pulse.objects.all().delete()
        PulseFactory(since=now - timedelta(minutes=5), seen_at=now)
        ask("sweep")
        give_up = time.monotonic() + LOOK_S
        while (is_active := Run.objects.get(pk=run.pk).is_active) and time.monotonic() < give_up:
            time.sleep(POLL_S)
        return not is_active

    wait_until(is_over, deadline_s=LONG_S)


def run_of(task: Task, far: Far, *, after: int = 0) -> Run:
    """The run of a task that follows so many others, once there is one. It is that worker's."""
    runs = Run.objects.filter(task=task).order_by("created_at")
    wait_until(lambda: runs.count() > after, deadline_s=LONG_S)
    run: Run = runs[after]
    assert run.worker == far.worker
    return run


def at_work(run: Run, far: Far) -> None:
    """Wait until its agent is in the middle of its work, where the model stalls."""
    read = RunEvent.objects.filter(run=run, kind="tool_result")
    wait_until(lambda: read.count() >= 2 or not Run.objects.get(pk=run.pk).is_active, deadline_s=LONG_S)
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING, (run.reason, run.detail, far.said)


def ended(run: Run, far: Far) -> Run:
    wait_until(lambda: not Run.objects.get(pk=run.pk).is_active, deadline_s=LONG_S)
    return Run.objects.select_related("task", "agent__member").get(pk=run.pk)


def test_others_go_on_where_a_supervisor_and_a_worker_are_killed(
    port: int, join: Join, supervising: Supervising
) -> None:
    task = task_of(TaskKind.BUILD, Role.DEVELOPER, order="stall after=3 times=1", next_attempt_at=NOW)
    before = seed(task.project)
    with web(port):
        first = join("first")
        with supervising() as supervisor:
            ask("dispatch")
            orphan = run_of(task, first)
            at_work(orphan, first)
            supervisor.kill()
            supervisor.wait()
        Run.objects.filter(pk=orphan.pk).update(lease_until=timezone.now() - timedelta(seconds=1))  # as time does
        with supervising():
            notice_the_dead(orphan)
            done = ended(orphan, first)
            assert (done.status, done.reason, done.task.attempts) == (RunStatus.LOST, "lease_expired", 0)
            assert late_result(port, first, orphan) == 409
            assert "run_ended" in refusals()
            wait_until(lambda: not (first.var / "runs" / str(orphan.pk)).exists())  # it is not wanted there

            again = run_of(task, first, after=1)
            at_work(again, first)
            second = join("second")
            Task.objects.filter(pk=task.pk).update(description="")
            first.process.kill()
            Worker.objects.filter(pk=first.worker.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=1))
            notice_the_dead(again)
            done = ended(again, first)
            assert (done.status, done.reason, done.task.attempts) == (RunStatus.LOST, "worker_gone", 0)

            last = ended(run_of(task, second, after=2), second)
            assert last.status == RunStatus.SUCCEEDED, (last.reason, last.detail, second.said)
            for run in (again, last):
                wait_until(lambda run=run: not run_directory(run.pk).exists())
                assert_nothing_is_left(run)
        assert second.stop() == 0, second.said
    assert second.worker.status == WorkerStatus.OFFLINE
    assert list((second.var / "runs").glob("*")) == []
    assert transcript_of(last)
    task.refresh_from_db()
    assert (task.status, task.runs.count()) == (TaskStatus.COMPLETED, 3)
    assert repository(task.project_id).head() == last.merge_commit != before


def late_result(port: int, far: Far, run: Run) -> int:
    """Hand the result of a run in, as its worker does."""
    address = f"http://127.0.0.1:{port}{reverse('api_run_result', args=[run.pk])}"
    said = {"request": "0" * 32, "bytes": 0}
    answer = httpx.post(address, json=said, headers=bearer(far.key), timeout=LONG_S, trust_env=False)
    assert "too late" in answer.json()["error"]["message"]
    return answer.status_code


@pytest.mark.docker
def test_containers_elsewhere_do_what_comes_by_the_queue(
    port: int, join: Join, supervising: Supervising, client: Client
) -> None:
    """On the way tasks are given to others, one that waits and one that is worked on, and an agent adds one."""
    owner = person(AccountRole.ADMIN)
    _, text = key_of(owner, Scope.PROJECTS_WRITE, now=timezone.now())

    def reassign(task: Task, role: Role) -> None:
        address = reverse("api_task_reassign", args=[task.pk])
        answer = client.post(address, {"role": role}, content_type="application/json", headers=bearer(text))
        assert answer.status_code == 200, answer.content

    whole = task_of(TaskKind.BUILD, Role.MONITOR, order="divide mode=pm", next_attempt_at=NOW)
    whole.project.description += " [[rehearsal: stall after=1 role=pm]]"
    whole.project.save(update_fields=["description"])
    before = seed(whole.project)
    with web(port), supervising():
        far = join("containers", "docker")
        reassign(whole, Role.ORCHESTRATOR)
        ask("dispatch")
        run = run_of(whole, far)
        wait_until(lambda: containers_of(run) or not Run.objects.get(pk=run.pk).is_active, deadline_s=LONG_S)
        assert containers_of(run), (far.said, Run.objects.get(pk=run.pk).detail)
        sockets = psutil.Process(far.process.pid).net_connections("inet")
        (listening,) = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
        assert listening.startswith("10.213."), "at the project's bridge, and nowhere else"
        run = ended(run, far)
        assert (run.status, run.agent.member.role) == (RunStatus.SUCCEEDED, Role.ORCHESTRATOR), (run.detail, far.said)
        assert "psycopg" not in " ".join(m.path for m in psutil.Process(far.process.pid).memory_maps())

        (part,) = Task.objects.filter(parent=whole)
        answers = [line.payload for line in transcript_of(run) if line.kind == "tool_result"]
        assert any(answer["is_error"] and "at most 50" in str(answer["content"]) for answer in answers), answers
        interrupted = run_of(part, far)
        wait_until(lambda: RunEvent.objects.filter(run=interrupted, kind="tool_use").exists(), deadline_s=LONG_S)
        reassign(part, Role.DEVELOPER)
        interrupted = ended(interrupted, far)
        assert (interrupted.status, interrupted.reason) == (RunStatus.CANCELLED, "reassigned"), far.said
        assert interrupted.agent.member.role == Role.PM

        done = ended(run_of(part, far, after=1), far)
        assert done.status == RunStatus.SUCCEEDED, (done.reason, done.detail, far.said)
        assert (done.agent.member.role, done.task.status, done.task.attempts) == (
            Role.DEVELOPER,
            TaskStatus.COMPLETED,
            0,
        )
        assert repository(part.project_id).head() == done.merge_commit != before
        wait_until(lambda: not run_directory(done.pk).exists())
        assert_nothing_is_left(done)
        assert far.stop() == 0, far.said
        assert networks_of(part) == []
    assert AuditLog.objects.filter(action="task.reassigned").count() == 2


def containers_of(run: Run) -> list[str]:
    with closing(docker.from_env()) as client:
        return [one.name for one in client.containers.list() if run.pk.hex in one.name]


def networks_of(task: Task) -> list[str]:
    with closing(docker.from_env()) as client:
        return [one.name for one in client.networks.list() if one.name.endswith(network_name(task.project_id))]
