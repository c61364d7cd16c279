"""The one step by which every status changes."""

from datetime import timedelta

import pytest

from projects.errors import IllegalTransition, StaleState
from projects.models import Approval, Task
from projects.states import APPROVAL_TRANSITIONS, TASK_TRANSITIONS, ApprovalStatus, TaskStatus
from projects.transitions import check_step, step
from tests.factories import NOW, ApprovalFactory, TaskFactory

pytestmark = pytest.mark.django_db


def test_step_changes_row_and_object_with_their_fields() -> None:
    task = TaskFactory(status="ready")
    step(task, TaskStatus.BLOCKED, table=TASK_TRANSITIONS, reason="why", next_attempt_at=NOW + timedelta(hours=1))
    found = Task.objects.get(pk=task.pk)
    for row in (task, found):
        assert (row.status, row.reason, row.next_attempt_at) == ("blocked", "why", NOW + timedelta(hours=1))


def test_step_changes_nothing_else() -> None:
    task = TaskFactory(status="ready")
    task.title = "Not saved"
    step(task, TaskStatus.BLOCKED, table=TASK_TRANSITIONS)
    assert Task.objects.get(pk=task.pk).title != "Not saved"


def test_step_outside_of_the_table_is_refused_in_words() -> None:
    approval = ApprovalFactory(status="approved", title="Plan 1")
    with pytest.raises(IllegalTransition, match="approval Plan 1 is approved: it cannot become rejected"):
        step(approval, ApprovalStatus.REJECTED, table=APPROVAL_TRANSITIONS)
    assert Approval.objects.get(pk=approval.pk).status == "approved"


def test_step_from_a_state_that_passed_is_stale_and_changes_nothing() -> None:
    task = TaskFactory(status="ready")
    Task.objects.filter(pk=task.pk).update(status="blocked")
    with pytest.raises(StaleState, match="is not ready any more"):
        step(task, TaskStatus.ALLOCATED, table=TASK_TRANSITIONS, reason="why")
    assert (task.status, task.reason) == ("ready", "")
    assert Task.objects.get(pk=task.pk).status == "blocked"


def test_step_of_a_deleted_row_is_stale() -> None:
    task = TaskFactory(status="ready")
    Task.objects.filter(pk=task.pk).delete()
    with pytest.raises(StaleState):
        step(task, TaskStatus.ALLOCATED, table=TASK_TRANSITIONS)


@pytest.mark.parametrize("old", TaskStatus)
@pytest.mark.parametrize("new", TaskStatus)
def test_check_step_agrees_with_the_table(old: TaskStatus, new: TaskStatus) -> None:
    task = Task(status=old, key="k", title="t")
    if new in TASK_TRANSITIONS[old]:
        check_step(task, new, TASK_TRANSITIONS)
    else:
        with pytest.raises(IllegalTransition):
            check_step(task, new, TASK_TRANSITIONS)
