"""A change that does not go into main: a task of its own, and the task that waits for it."""

from typing import Any

import pytest
from django.db import DatabaseError, transaction

from projects.actions import conflicts, growing, projects, steering, tasks
from projects.actions.tasks import Setback
from projects.errors import IllegalTransition, StaleState
from projects.models import Approval, AuditLog, Project, Task
from projects.plans import PlannedTask
from projects.queries import dispatchable
from projects.states import TASK_TRANSITIONS, TaskKind, TaskStatus
from tests.factories import NOW, TESTER, TaskFactory
from tests.projects import lives

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("published")]
WHO: Any = {"by": TESTER, "now": NOW}
TOLD = {"paths": ["app/store.py"], "detail": "CONFLICT", "main": "a" * 40, "commit": "b" * 40, "run": "r"}


def conflicting(task: Task, **handed_in: Any) -> Task:
    """Have a ready task's change conflict with main; return what resolves it."""
    begun = lives.begin(task)
    setback = Setback("conflict", "Others changed the same places: app/store.py.", {"conflict": TOLD}, counts=False)
    given = {"summary": "Stores."} | handed_in
    return conflicts.open_conflict(begun, setback, key=f"conflict-{task.key}", handed_in=given, **WHO)


def again(task: Task) -> Task:
    return Task.objects.select_related("project").get(pk=task.pk)


def state(task: Task) -> tuple[str, str]:
    found = again(task)
    return found.status, found.reason


def actions_of(task: Task) -> list[str]:
    found = AuditLog.objects.filter(object_id=str(task.pk)).order_by("seq")
    return [action.removeprefix("task.") for action in found.values_list("action", flat=True)]


def test_a_conflict_is_a_task_below_the_one_that_waits_for_it_and_asks_nobody() -> None:
    made = lives.building()
    conflict = conflicting(made["storage"])

    assert state(made["storage"]) == ("blocked", "awaiting_merge")
    assert (conflict.kind, conflict.status, conflict.role) == (TaskKind.CONFLICT, TaskStatus.READY, "developer")
    assert conflict.parent_id == made["storage"].pk
    assert conflict.context["conflict"]["commit"] == TOLD["commit"]
    assert conflict.context["conflict"]["task"]["key"] == "storage"
    assert "has to keep both commits, else your work is refused as `unresolved`" in conflict.description
    assert not Approval.objects.filter(task__isnull=False).exists()
    assert state(made["pages"])[0] == "pending"
    assert dispatchable(now=NOW, limit=9)[0].task_id == conflict.pk
    lives.check_invariants(conflict.project)


def test_who_is_narrowed_stays_narrowed() -> None:
    task = TaskFactory(role="sre", specialisation="backend")
    conflict = conflicting(task)
    assert (conflict.role, conflict.specialisation) == ("sre", "backend")


def test_with_the_conflict_the_task_is_completed_with_what_its_own_agent_handed_in() -> None:
    made = lives.building()
    conflict = lives.begin(conflicting(made["storage"], returned={"passed": True}))

    freed = tasks.complete_task(conflict, {"summary": "Both.", "commit": "c" * 40, "changed": ["app/store.py"]}, **WHO)

    assert set(freed) == {made["pages"].pk, made["report"].pk}
    done = again(made["storage"])
    assert (done.status, done.reason, done.context) == ("completed", "", {})
    assert done.result == {
        "summary": "Stores.",
        "returned": {"passed": True},
        "commit": "c" * 40,
        "changed": ["app/store.py"],
        "resolved_by": conflict.key,
    }
    assert actions_of(done)[-2:] == ["blocked", "completed"]
    assert conflicts.ask_about_unresolved(**WHO) == 0
    lives.check_invariants(conflict.project)


def test_what_was_handed_in_stays_whole_through_a_conflict() -> None:
    made = lives.building()
    given = {"summary": "S" * 20_000, "returned": {"report": "R" * 20_000}}  # as much as the verb takes
    conflict = lives.begin(conflicting(made["storage"], **given))
    tasks.complete_task(conflict, {"summary": "Both.", "commit": "c" * 40, "changed": []}, **WHO)
    assert given.items() <= again(made["storage"]).result.items()


def test_a_blocked_task_is_completed_with_its_conflict_alone() -> None:
    made = lives.building()
    conflicting(made["storage"])
    with pytest.raises(IllegalTransition, match="nobody has done it"):
        tasks.complete_task(again(made["storage"]), {}, **WHO)
    stuck = TaskFactory(status="blocked", reason="stuck")
    with pytest.raises(DatabaseError, match="Cannot update"), transaction.atomic():
        Task.objects.filter(pk=stuck.pk).update(status="completed", completed_at=NOW)
    assert TaskStatus.COMPLETED in TASK_TRANSITIONS[TaskStatus.BLOCKED]


def test_nobody_resolves_it_so_a_person_is_asked_about_the_task_once() -> None:
    made = lives.building()
    conflict = lives.begin(conflicting(made["storage"]))
    Task.objects.filter(pk=conflict.pk).update(attempts=2)
    conflict.refresh_from_db()

    tasks.set_back(conflict, Setback("tests_failed", "3 tests failed."), **WHO)

    assert state(conflict) == ("failed", "tests_failed")
    assert not Approval.objects.filter(task__isnull=False).exists(), "one question, about the task"
    assert [conflicts.ask_about_unresolved(**WHO) for _ in "ab"] == [1, 0]
    asked = Approval.objects.get(task=made["storage"])
    for said in (TOLD["commit"][:12], TOLD["main"][:12], "app/store.py", "3 tests failed.", "done anew"):
        assert said in asked.body
    assert state(made["storage"]) == ("blocked", "conflict")

    lives.decide(asked, "retry", "Keep both.")
    anew = again(made["storage"])
    assert (anew.status, anew.attempts, anew.context["conflict"]["paths"]) == ("ready", 0, ["app/store.py"])
    assert anew.context["mentor"][0]["reply"] == "Keep both."
    Task.objects.filter(pk=conflict.pk).update(key="the-first")
    assert conflicting(anew).status == "ready", "it may conflict again"


def test_given_up_by_a_person_the_task_has_failed() -> None:
    made = lives.building()
    conflict = lives.begin(conflicting(made["storage"]))
    tasks.block_task(conflict, Setback("blocked", "How?"), ask_person=True, **WHO)
    conflicts.ask_about_unresolved(**WHO)
    lives.decide(Approval.objects.get(task=made["storage"]), "give_up")
    assert state(made["storage"]) == ("failed", "given_up")
    with pytest.raises(IllegalTransition, match="try the task again whose change it is"):
        steering.retry_task(conflict, **WHO)
    lives.check_invariants(conflict.project)


def test_a_conflict_that_asks_its_mentor_is_waited_for() -> None:
    made = lives.building()
    conflict = lives.begin(conflicting(made["storage"]))
    tasks.block_task(conflict, Setback("awaiting_mentor", "How?"), ask_person=False, **WHO)
    assert conflicts.ask_about_unresolved(**WHO) == 0
    steering.retry_task(conflict, **WHO)
    assert (state(conflict)[0], state(made["storage"])[1]) == ("ready", "awaiting_merge")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("way", "becomes"), [("retry", "ready"), ("skip", "cancelled"), ("cancel", "cancelled"), ("give_up", "failed")]
)
def test_a_task_that_goes_another_way_calls_its_conflict_off(way: str, becomes: str, begun: bool) -> None:
    made = lives.building()
    conflict = conflicting(made["storage"])
    if begun:
        lives.begin(conflict)
    match way:
        case "retry":
            steering.retry_task(made["storage"], **WHO)
        case "skip":
            steering.skip_task(made["storage"], **WHO)
        case "cancel":
            projects.cancel_project(Project.objects.get(pk=conflict.project_id), reason="", **WHO)
        case _:
            tasks.fail_task(again(made["storage"]), reason="given_up", detail="", **WHO)

    assert (state(made["storage"])[0], state(conflict)[0]) == (becomes, "cancelled")
    row = AuditLog.objects.get(action="task.cancelled", object_id=str(conflict.pk))
    assert row.details["was_running"] is begun, "by which its run is stopped"
    assert conflicts.ask_about_unresolved(**WHO) == 0
    lives.check_whole(str(conflict.project_id))


def test_a_conflict_that_was_called_off_completes_nothing() -> None:
    made = lives.building()
    conflict = lives.begin(conflicting(made["storage"]))
    stale = again(conflict)
    steering.retry_task(made["storage"], **WHO)
    with pytest.raises(StaleState):
        tasks.complete_task(stale, {}, **WHO)
    assert state(made["storage"])[0] == "ready"


def test_with_a_task_its_conflict_goes_to_another_role() -> None:
    made = lives.building()
    conflict = conflicting(made["storage"])
    steering.reassign_task(made["storage"], "tester", **WHO)
    assert (again(made["storage"]).role, again(conflict).role) == ("tester", "tester")
    assert state(made["storage"]) == ("blocked", "awaiting_merge")
    for steer in (steering.skip_task, lambda task, **who: steering.reassign_task(task, "developer", **who)):
        with pytest.raises(steering.CannotSteer):
            steer(conflict, **WHO)


def test_conflicts_are_nothing_that_a_project_grew_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "MAX_IN_PROJECT", 1)
    made = lives.building()
    conflict = lives.begin(conflicting(made["storage"]))
    tasks.complete_task(conflict, {}, **WHO)
    parent = lives.begin(made["pages"])
    growing.add_tasks(parent, [PlannedTask("more", "More", "developer")], **WHO)
    assert Task.objects.filter(parent=parent).count() == 1


def test_pausing_and_resuming_leaves_a_conflict_where_it_is() -> None:
    conflict = conflicting(lives.building()["storage"])
    projects.pause_project(Project.objects.get(pk=conflict.project_id), reason="", **WHO)
    assert dispatchable(now=NOW, limit=9) == []
    projects.resume_project(Project.objects.get(pk=conflict.project_id), **WHO)
    assert dispatchable(now=NOW, limit=9)[0].task_id == conflict.pk
