"""Runs whose work is saved while they go on, and whose task people give away in the middle of it."""

import pytest
from django.utils import timezone
from pytest_django import Settings

from agents.actions.checkpoints import INTERRUPTED
from agents.models import Checkpoint
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor.keeper import LeaseKeeper
from agents.tasks import stop_runs_at
from projects.actions import steering
from tests.agents.supervisor.line import assert_nothing_is_left, attempt, is_ready_again, lose, wait_until
from tests.agents.supervisor.test_interrupted_runs import WAITING, working
from tests.factories import TESTER

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]
DRAFT = "docs/draft.md"


def test_work_is_saved_every_few_minutes_and_gone_on_from_when_the_machine_dies(
    keeper: LeaseKeeper, settings: Settings
) -> None:
    settings.EKLAVYA_CHECKPOINT_MINUTES = 0.01
    supervised, task = working(keeper)
    supervised.run.refresh_from_db()

    def saved() -> Checkpoint | None:
        newest = Checkpoint.objects.filter(run=supervised.run).order_by("-seq").first()
        if newest is None:
            return None
        changes = repository(task.project_id).diff_stat(supervised.run.base_commit, newest.state["commit"])
        return newest if DRAFT in {change.path for change in changes} else None

    checkpoint = wait_until(saved)
    lose(supervised.run)

    assert supervised.join().status == RunStatus.LOST
    task.refresh_from_db()
    assert checkpoint is not None
    assert task.context == {"checkpoint": checkpoint.file_snapshot, "resume": INTERRUPTED}


def test_a_task_that_is_given_to_another_role_is_done_by_it_from_the_beginning(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper, order=WAITING + " role=pm")

    steering.reassign_task(task, "developer", by=TESTER, now=timezone.now())
    stop_runs_at(task_id=str(task.pk), reason="reassigned")

    run = supervised.join()
    assert (run.status, run.reason) == (RunStatus.CANCELLED, "reassigned")
    assert is_ready_again(task, attempts=0)
    assert task.context.get("checkpoint") is None
    assert_nothing_is_left(run)
    again = attempt(task, keeper)
    assert (again.agent.agent_type, again.status) == ("developer", RunStatus.SUCCEEDED), again.detail
