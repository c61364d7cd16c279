"""A running task adds others below itself: in the graph, within limits, never in a circle."""

import pytest

from projects import queries
from projects.actions import growing, steering, tasks, workflows
from projects.errors import IllegalTransition, InvalidPlan
from projects.models import AuditLog, Task
from projects.plans import PlannedTask
from projects.states import ExecutionStatus, TaskStatus
from tests.factories import NOW, TESTER, TaskFactory
from tests.projects.lives import begin, building, check_invariants, complete
from tests.projects.workflows.test_steps import open_steps, save, started, status_of

pytestmark = pytest.mark.django_db
WHO = {"by": TESTER, "now": NOW}


def draft(key: str, *depends_on: str, role: str = "developer") -> PlannedTask:
    return PlannedTask(key, key.title(), role, depends_on=depends_on)


def test_what_waits_for_the_task_waits_for_what_it_added() -> None:
    made = building()
    storage = begin(made["storage"])

    added = growing.add_tasks(storage, [draft("tables"), draft("index", "tables"), draft("docs", "storage")], **WHO)

    assert [task.status for task in added] == ["ready", "pending", "pending"]
    assert {task.parent_id for task in added} == {storage.pk}
    assert {task.plan_id for task in added} == {storage.plan_id}
    check_invariants(storage.project)
    tasks.complete_task(storage, {"summary": ""}, **WHO)
    assert Task.objects.get(pk=made["pages"].pk).status == TaskStatus.PENDING
    for key in ("tables", "index", "docs"):
        complete(Task.objects.get(key=key))
    assert Task.objects.get(pk=made["pages"].pk).status == TaskStatus.READY
    check_invariants(storage.project)
    assert AuditLog.objects.get(action="task.grown").details["added"] == ["tables", "index", "docs"]
    assert not queries.is_built(Task.objects.get(pk=storage.pk).project)


def test_what_a_narrowed_task_adds_for_its_own_role_is_narrowed_too() -> None:
    storage = begin(building()["storage"])
    Task.objects.filter(pk=storage.pk).update(specialisation="backend")

    same, other = growing.add_tasks(storage, [draft("tables"), draft("check", role="qa")], **WHO)

    assert (same.specialisation, other.specialisation) == ("backend", "")


def test_who_is_narrowed_by_itself_narrows_what_it_adds_for_its_own_role() -> None:
    storage = begin(building()["storage"])
    same, other = growing.add_tasks(
        storage, [draft("tables"), draft("check", role="qa")], narrowed_by=["frontend"], **WHO
    )
    assert (same.specialisation, other.specialisation) == ("frontend", "")

    Task.objects.filter(pk=storage.pk).update(specialisation="backend")
    with pytest.raises(InvalidPlan, match="narrowed to “frontend” and “backend”"):
        growing.add_tasks(storage, [draft("index")], narrowed_by=["frontend"], **WHO)
    growing.add_tasks(storage, [draft("look", role="qa")], narrowed_by=["frontend"], **WHO)


@pytest.mark.parametrize(
    ("drafts", "said"),
    [
        ([draft("a", "b"), draft("b", "a")], "in a circle"),
        ([draft("a", "a")], "in a circle"),
        # review waits for pages and report, which wait for storage, and so for all that storage adds
        ([draft("a", "review")], "in a circle"),
        ([draft("a", "nothing")], "“nothing” is no task of this project"),
        ([draft("a"), draft("a")], "used twice"),
        ([draft("a", "b", "b"), draft("b")], "names a dependency twice"),
        ([draft("pages")], "is another task's"),
        ([draft("a", role="wizard")], "Nobody in the squad is “wizard”"),
        ([draft("a", role="mentor")], "unknown role"),
        ([draft("A!")], "is not 1 to 48"),
        ([draft(f"t{number}") for number in range(51)], "At most 50"),
        ([], "at least one"),
    ],
)
def test_bad_additions_are_refused_and_leave_nothing(drafts: list[PlannedTask], said: str) -> None:
    storage = begin(building()["storage"])
    before = Task.objects.count()

    with pytest.raises(InvalidPlan, match=said):
        growing.add_tasks(storage, drafts, **WHO)

    assert Task.objects.count() == before
    check_invariants(storage.project)


def test_tasks_lie_at_most_three_levels_below_each_other() -> None:
    task = begin(building()["storage"])
    for level in range(growing.MAX_DEPTH):
        (made,) = growing.add_tasks(task, [draft(f"level-{level}")], **WHO)
        task = begin(made)
    with pytest.raises(InvalidPlan, match="at most 3 levels"):
        growing.add_tasks(task, [draft("deeper")], **WHO)


def test_project_grows_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "MAX_IN_PROJECT", 3)
    storage = begin(building()["storage"])
    growing.add_tasks(storage, [draft("a"), draft("b")], **WHO)
    with pytest.raises(InvalidPlan, match="by at most 3 tasks; 2 were added already"):
        growing.add_tasks(storage, [draft("c"), draft("d")], **WHO)


@pytest.mark.parametrize("status", ["ready", "review", "completed", "cancelled"])
def test_only_a_task_at_work_grows(status: str) -> None:
    with pytest.raises(IllegalTransition, match="not being worked on"):
        growing.add_tasks(TaskFactory(status=status), [draft("a")], **WHO)


def test_node_of_an_execution_is_done_when_what_its_task_added_is() -> None:
    execution = started(save([{"key": "a"}, {"key": "b"}], [("a", "b")]))
    task = begin(open_steps(execution)["a"])
    one, two = growing.add_tasks(task, [draft("one"), draft("two", "one")], **WHO)
    assert one.context["workflow"]["step"] == "a"
    tasks.complete_task(task, {"summary": "Divided."}, **WHO)
    assert list(open_steps(execution)) == ["a"]

    complete(one)
    assert tasks.cancel_left(now=NOW) == 0
    steering.skip_task(two, **WHO)

    assert list(open_steps(execution)) == ["b"]
    assert execution.nodes.get(key="a").result["summary"] == "Divided."


def test_added_tasks_of_a_paused_execution_are_not_dispatched_however_deep_they_lie() -> None:
    execution = started(save([{"key": "a"}]))
    task = begin(open_steps(execution)["a"])
    for level in range(growing.MAX_DEPTH):
        if level:
            task = begin(task)
        (task,) = growing.add_tasks(task, [draft(f"level-{level}")], **WHO)
        workflows.pause_execution(execution, **WHO)
        assert queries.dispatchable(now=NOW, limit=10) == []
        workflows.resume_execution(execution, **WHO)
        assert [one.task_id for one in queries.dispatchable(now=NOW, limit=10)] == [task.pk]


def test_added_task_that_is_given_up_fails_the_node_and_the_others_are_cancelled() -> None:
    execution = started(save([{"key": "a"}]))
    task = begin(open_steps(execution)["a"])
    one, _two = growing.add_tasks(task, [draft("one"), draft("two")], **WHO)

    tasks.fail_task(begin(one), reason="given_up", detail="No.", **WHO)
    tasks.cancel_left(now=NOW)

    assert status_of(execution) == ExecutionStatus.FAILED
    assert set(Task.objects.exclude(pk=one.pk).values_list("status", flat=True)) == {TaskStatus.CANCELLED}
