"""Runs on a remote worker: the real CLI there, the supervisor here, everything between them real."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection
from django.utils import timezone

from agents.models import Run
from agents.remote.runtime import runtime_of
from agents.states import RunStatus, WorkerStatus
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.supervise import supervise
from projects.roles import Role
from projects.states import TaskKind, TaskStatus
from tests.agents.remote.conftest import Far, web
from tests.agents.supervisor.line import assert_nothing_is_left, hand_out, seed, task_of, transcript_of

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
    thread.join(90)
    assert not thread.is_alive()
    found: Run = Run.objects.select_related("task").get(pk=run.pk)
    return found


def test_a_run_is_done_on_a_machine_without_our_database(
    port: int, join: Callable[[str], Far], keeper: LeaseKeeper
) -> None:
    with web(port):
        far = join("far-away")
        task = task_of(TaskKind.BUILD, Role.DEVELOPER)
        before = seed(task.project)
        (run,) = hand_out(task)
        assert run.worker == far.worker

        done = ended(run, begin(run, keeper))

        assert done.status == RunStatus.SUCCEEDED, (done.reason, done.detail, far.said)
        assert done.task.status == TaskStatus.COMPLETED
        assert done.merge_commit not in {"", before}, "what it wrote there is on main here"
        assert transcript_of(done)
        assert_nothing_is_left(done)
        assert list((far.var / "runs").glob("*")) == []
        assert far.stop() == 0, far.said
        assert far.worker.status == WorkerStatus.OFFLINE
