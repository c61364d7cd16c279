"""A run that the dispatching process does itself: begun with the commit, then like any other."""

import pytest
from django.db import transaction
from django.utils import timezone

from agents.actions.dispatch import Host, dispatch
from agents.actions.leases import Held
from agents.models import Run, Worker
from agents.sandboxes import runtime
from agents.states import RunStatus
from agents.supervisor import orphans
from agents.supervisor.early import EarlyStart
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.standby import Standbys
from agents.supervisor.workplace import sandbox_name
from projects.roles import Role
from projects.states import TaskKind, TaskStatus
from tests.agents.supervisor.line import assert_nothing_is_left, task_of, wait_until

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]


def early_start(keeper: LeaseKeeper) -> EarlyStart:
    return EarlyStart(Standbys(keeper=lambda: keeper, runtime=runtime, clock=timezone.now, size=0, keep_s=1))


def begin_and_look(early: EarlyStart, keeper: LeaseKeeper, held: Held) -> None:
    """Begin, and go on only when its program runs and keeper and sweep have come by: before dispatch returns."""
    early.begin(held)
    wait_until(lambda: sandbox_name(held.run) in runtime().list_sandboxes())
    keeper.beat_once()
    orphans.clear(runtime(), now=timezone.now())


def test_a_run_that_was_begun_with_its_commit_is_done_like_any_other(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.REQUIREMENTS, Role.PM, context={"questions": [{"question": "Who?", "answer": "We."}]})
    worker = Worker.objects.get()

    with early_start(keeper) as early:
        host = Host(worker.name, keeper.owner, lambda held: begin_and_look(early, keeper, held))
        wait_until(lambda: dispatch(now=timezone.now(), host=host))  # what somebody has just now is left out

    run = Run.objects.select_related("agent", "task").get()
    assert (run.status, run.reason, run.lease_owner) == (RunStatus.SUCCEEDED, "completed", keeper.owner), run.detail
    assert run.task_id == task.pk
    assert_nothing_is_left(run)


def test_a_run_that_was_rolled_back_is_not_begun(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.REQUIREMENTS, Role.PM)
    worker = Worker.objects.get()

    def dispatch_in_vain() -> None:
        host = Host(worker.name, keeper.owner, early.begin)
        wait_until(lambda: dispatch(now=timezone.now(), host=host))
        raise ConnectionError("the server went away")

    with pytest.raises(ConnectionError), early_start(keeper) as early, transaction.atomic():
        dispatch_in_vain()

    assert not Run.objects.exists()
    task.refresh_from_db()
    assert task.status == TaskStatus.READY
    assert keeper.held == 0
