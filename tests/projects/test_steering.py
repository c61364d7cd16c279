"""What a person does to one task: try again, leave out, give to another role."""

from datetime import timedelta

import pytest

from projects import queries
from projects.actions import steering, tasks
from projects.actions.steering import CannotSteer
from projects.errors import IllegalTransition
from projects.models import AuditLog, Task
from projects.states import TaskKind, TaskStatus
from tests.factories import NOW, TESTER, ApprovalFactory, ProjectFactory, TaskFactory
from tests.projects.lives import begin, building, complete

pytestmark = pytest.mark.django_db
WHO = {"by": TESTER, "now": NOW}


def test_blocked_task_is_tried_again_and_its_question_withdrawn() -> None:
    task = TaskFactory(status="blocked", attempts=3, reason="tests_failed")
    question = ApprovalFactory(project=task.project, task=task, kind="blocked_task")

    steering.retry_task(task, **WHO)

    task.refresh_from_db()
    question.refresh_from_db()
    assert (task.status, task.attempts, question.status) == (TaskStatus.READY, 0, "expired")
    assert AuditLog.objects.filter(action="task.retried", object_id=str(task.pk)).count() == 1


def test_failed_task_is_tried_again_and_a_waiting_one_at_once() -> None:
    failed = TaskFactory(status="failed")
    waiting = TaskFactory(status="ready", next_attempt_at=NOW + timedelta(minutes=5))

    for task in (failed, waiting):
        steering.retry_task(task, **WHO)
        task.refresh_from_db()
        assert (task.status, task.next_attempt_at) == (TaskStatus.READY, NOW)


@pytest.mark.parametrize("status", ["pending", "ready", "in_progress", "review", "completed", "cancelled"])
def test_task_that_did_not_fail_is_not_tried_again(status: str) -> None:
    task = TaskFactory(status=status)
    with pytest.raises(IllegalTransition, match="there is nothing to try again"):
        steering.retry_task(task, **WHO)
    assert not AuditLog.objects.filter(action="task.retried").exists()


def test_what_waits_for_a_task_that_is_left_out_goes_on_and_the_project_is_built() -> None:
    made = building()
    complete(made["storage"])
    complete(made["pages"])
    begin(made["report"])

    steering.skip_task(made["report"], **WHO)

    made["report"].refresh_from_db()
    made["review"].refresh_from_db()
    assert (made["report"].status, made["report"].reason) == (TaskStatus.CANCELLED, "skipped")
    assert (made["review"].status, made["review"].unmet_count) == (TaskStatus.READY, 0)
    assert AuditLog.objects.get(action="task.cancelled").details["was_running"] is True
    complete(made["review"])
    project = made["review"].project
    project.refresh_from_db()
    assert queries.is_built(project)
    assert queries.progress(project) == 99


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_task_that_is_over_is_not_left_out(status: str) -> None:
    with pytest.raises(IllegalTransition):
        steering.skip_task(TaskFactory(status=status), **WHO)


@pytest.mark.parametrize("kind", [TaskKind.REQUIREMENTS, TaskKind.PLAN, TaskKind.DEMO, TaskKind.MENTOR])
def test_what_the_platform_waits_for_is_neither_left_out_nor_given_away(kind: TaskKind) -> None:
    task = TaskFactory(kind=kind)
    with pytest.raises(CannotSteer, match="cannot be left out"):
        steering.skip_task(task, **WHO)
    with pytest.raises(CannotSteer, match="cannot be given to another role"):
        steering.reassign_task(task, "sre", **WHO)


@pytest.mark.parametrize(("status", "was_running"), [("ready", False), ("blocked", False), ("in_progress", True)])
def test_task_is_given_to_another_role(status: str, was_running: bool) -> None:
    task = TaskFactory(status=status, context={"agent": "x", "mentor": []})

    steering.reassign_task(task, "sre", **WHO)

    task.refresh_from_db()
    assert (task.role, task.status, task.context) == ("sre", status, {"mentor": []})
    assert AuditLog.objects.get(action="task.reassigned").details == {
        "key": task.key,
        "from": "developer",
        "to": "sre",
        "was_running": was_running,
    }


@pytest.mark.parametrize("role", ["wizard", "mentor", "developer", "x" * 100])
def test_task_is_given_only_to_another_role_of_the_squad(role: str) -> None:
    task = TaskFactory(project=ProjectFactory(status="building"))
    with pytest.raises(CannotSteer):
        steering.reassign_task(task, role, **WHO)


def test_cancelling_a_task_leaves_others_alone() -> None:
    task, other = TaskFactory(status="ready"), TaskFactory(status="ready")
    steering.skip_task(task, **WHO)
    assert tasks.cancel_left(now=NOW) == 0
    assert Task.objects.get(pk=other.pk).status == TaskStatus.READY
