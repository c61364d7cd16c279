"""Workflows of roles: their nodes are tasks of a project, and the graph goes on as those end."""

from collections.abc import Sequence
from typing import Any

import pytest

from projects import queries
from projects.actions import conflicts, projects, steps, tasks, workflows
from projects.actions.tasks import Setback
from projects.actions.workflows import InvalidExecution, Start
from projects.models import AuditLog, Execution, ExecutionNode, Project, Task, Workflow
from projects.states import ExecutionStatus, NodeStatus, TaskKind, TaskStatus
from projects.workflows.definition import Definition
from projects.workflows.documents import Document
from tests.factories import NOW, TESTER, ProjectFactory, TaskFactory, WorkflowFactory
from tests.projects.lives import begin

pytestmark = pytest.mark.django_db


def save(nodes: list[dict[str, Any]], edges: Sequence[Any] = ()) -> Workflow:
    """A workflow; a node without a role or function is a developer's."""
    full = [node if "function" in node else {"role": "developer", "title": "Do", **node} for node in nodes]
    ways = [edge if isinstance(edge, dict) else {"from": edge[0], "to": edge[1]} for edge in edges]
    definition = Definition.from_json({"nodes": full, "edges": ways})
    return workflows.save_workflow(Document("w", "W", "", definition), by=TESTER, now=NOW)


def shipped(key: str) -> Workflow:
    return next(w for w in workflows.load_shipped(by=TESTER, now=NOW) if w.key == key)


def started(workflow: Workflow, project: Project | None = None, **given: Any) -> Execution:
    project = project or ProjectFactory(status="building")
    return workflows.start_execution(workflow, Start(**given), project=project, by=TESTER, now=NOW)


def open_steps(execution: Execution) -> dict[str, Task]:
    """The tasks that the execution waits for, by the keys of their nodes."""
    running = execution.nodes.filter(status=NodeStatus.RUNNING).select_related("task__project")
    return {node.key: node.task for node in running if node.task}


def do(execution: Execution, key: str, **returned: Any) -> None:
    """Take the task of a node to its end."""
    task = begin(open_steps(execution)[key])
    result = {"summary": f"{key} is done", "commit": "c0ffee", "changed": [], "returned": returned}
    tasks.complete_task(task, result, by=TESTER, now=NOW)


def status_of(execution: Execution) -> ExecutionStatus:
    execution.refresh_from_db()
    return ExecutionStatus(execution.status)


def test_template_makes_one_task_after_the_other_and_is_told_what_came_before() -> None:
    execution = started(shipped("bug_fix"), input={"request": "Dates are off by one."})
    (first,) = open_steps(execution).values()
    assert (first.kind, first.role, first.status) == (TaskKind.STEP, "developer", TaskStatus.READY)
    assert first.context["workflow"]["input"] == {"request": "Dates are off by one."}
    assert "result.reproduced == true" in first.context["workflow"]["decides"]

    do(execution, "analysis", reproduced=True, cause="A month is counted from 0.")
    do(execution, "regression-test")
    assert open_steps(execution)["fix"].context["workflow"]["results"]["analysis"]["cause"].startswith("A month")
    do(execution, "fix")
    do(execution, "regression-testing", passed=True)
    do(execution, "closing")

    assert status_of(execution) == ExecutionStatus.COMPLETED
    ended = dict(execution.nodes.values_list("key", "status"))
    assert ended["second-fix"] == ended["not-reproduced"] == NodeStatus.SKIPPED
    assert execution.result["closing"]["summary"] == "closing is done"


def test_condition_chooses_the_way() -> None:
    execution = started(shipped("bug_fix"))

    do(execution, "analysis", reproduced=False)

    assert list(open_steps(execution)) == ["not-reproduced"]


def test_joins_of_all_any_and_some() -> None:
    sources = ["a", "b", "c"]
    joins: dict[str, Any] = {"every": "all", "one": "any", "two": 2}
    nodes = [{"key": key} for key in sources] + [{"key": key, "join": join} for key, join in joins.items()]
    execution = started(save(nodes, [(source, target) for source in sources for target in joins]))

    seen = []
    for key in sources:
        do(execution, key)
        seen.append(sorted(set(open_steps(execution)) & set(joins)))

    assert seen == [["one"], ["one", "two"], ["every", "one", "two"]]


def test_result_that_decides_nothing_fails_the_execution_and_says_why() -> None:
    execution = started(shipped("bug_fix"))

    do(execution, "analysis", cause="unknown")

    assert status_of(execution) == ExecutionStatus.FAILED
    assert "result.reproduced == true” could not be decided" in execution.detail


def test_task_that_is_given_up_fails_the_execution_and_its_other_tasks_are_cancelled() -> None:
    execution = started(save([{"key": "a"}, {"key": "b"}]))
    other = open_steps(execution)["b"]
    task = begin(open_steps(execution)["a"])

    tasks.fail_task(task, reason="given_up", detail="No way.", by=TESTER, now=NOW)
    assert tasks.cancel_left(now=NOW) == 1

    assert status_of(execution) == ExecutionStatus.FAILED
    assert execution.detail == "Node “a” failed: Its task was given up: No way."
    other.refresh_from_db()
    assert (other.status, other.reason) == (TaskStatus.CANCELLED, "execution_over")


def test_edge_after_failure_is_taken() -> None:
    way = {"from": "a", "to": "b", "after": "failure"}
    execution = started(save([{"key": "a"}, {"key": "b"}], [way]))

    tasks.fail_task(begin(open_steps(execution)["a"]), reason="given_up", detail="", by=TESTER, now=NOW)

    assert list(open_steps(execution)) == ["b"]


def test_functions_and_roles_follow_each_other() -> None:
    nodes = [{"key": "a", "function": "noop"}, {"key": "b"}, {"key": "c", "function": "noop"}]
    execution = started(save(nodes, [("a", "b"), ("b", "c")]))
    execution.nodes.filter(key="a").update(status=NodeStatus.RUNNING, runner=1, lease_until=NOW)
    execution.nodes.filter(key="a").update(
        status=NodeStatus.COMPLETED, runner=None, lease_until=None, finished_at=NOW, result={}
    )
    execution.nodes.filter(key="b").update(status=NodeStatus.READY, unmet_count=0, open_edges=0)
    Execution.objects.filter(pk=execution.pk).update(open_count=2)

    assert steps.begin_ready(now=NOW) == 1
    assert steps.begin_ready(now=NOW) == 0
    do(execution, "b")

    assert execution.nodes.get(key="c").status == NodeStatus.READY


@pytest.mark.parametrize("status", ["planning", "demo", "complete", "cancelled"])
def test_project_that_builds_nothing_is_refused(status: str) -> None:
    with pytest.raises(InvalidExecution, match="from the approval of its demo until it is delivered"):
        started(shipped("bug_fix"), ProjectFactory(status=status))
    assert not Execution.objects.exists()


def test_without_a_project_or_its_roles_it_is_refused() -> None:
    workflow = shipped("testing")
    with pytest.raises(InvalidExecution, match="say in which project"):
        workflows.start_execution(workflow, Start(), by=TESTER, now=NOW)
    project = ProjectFactory(status="building")
    project.squad.members.filter(role="tester").delete()
    with pytest.raises(InvalidExecution, match="Nobody in the squad of"):
        started(workflow, project)
    with pytest.raises(InvalidExecution, match="start a project instead"):
        started(shipped("main_job"))


def test_workflow_that_can_no_longer_be_used_fails_its_execution_and_no_other() -> None:
    broken, other = (started(save([{"key": "a"}, {"key": "b"}], [("a", "b")])) for _ in range(2))
    spoiled = WorkflowFactory(definition={"nodes": [{"key": "a", "role": "wizard", "title": "A"}]})
    nodes = ExecutionNode.objects.filter(execution__in=[broken, other])
    nodes.filter(key="b").update(status=NodeStatus.READY, unmet_count=0)
    Execution.objects.filter(pk=broken.pk).update(workflow=spoiled)

    assert steps.begin_ready(now=NOW) == 2

    assert (status_of(broken), status_of(other)) == (ExecutionStatus.FAILED, ExecutionStatus.RUNNING)
    assert "unknown role “wizard”" in broken.detail
    assert AuditLog.objects.filter(action="execution.failed", object_id=str(broken.pk)).count() == 1
    assert "b" in open_steps(other)
    assert steps.begin_ready(now=NOW) == 0


def test_project_is_delivered_only_after_its_executions() -> None:
    project = ProjectFactory(status="building")
    TaskFactory(project=project, status="completed")
    execution = started(save([{"key": "a"}]), project)

    assert not queries.is_built(project)
    with pytest.raises(projects.ProjectNotActive, match="still being carried out"):
        projects.complete_project(project, commit="c" * 40, by=TESTER, now=NOW)
    do(execution, "a")
    assert queries.is_built(project)


def test_cancelled_project_ends_its_executions() -> None:
    execution = started(save([{"key": "a"}, {"key": "b"}], [("a", "b")]))
    task = begin(open_steps(execution)["a"])

    projects.cancel_project(Project.objects.get(pk=execution.project_id), reason="No money.", by=TESTER, now=NOW)

    task.refresh_from_db()
    assert (task.status, status_of(execution)) == (TaskStatus.CANCELLED, ExecutionStatus.CANCELLED)
    assert set(execution.nodes.values_list("status", flat=True)) == {NodeStatus.CANCELLED}


def test_tasks_of_a_paused_execution_are_not_dispatched_and_go_on_when_it_is_resumed() -> None:
    execution = started(save([{"key": "a"}, {"key": "b"}, {"key": "c"}], [("a", "c")]))
    task = begin(open_steps(execution)["a"])

    workflows.pause_execution(execution, by=TESTER, now=NOW)
    assert queries.dispatchable(now=NOW, limit=10) == []
    tasks.complete_task(task, {"summary": ""}, by=TESTER, now=NOW)
    assert execution.nodes.get(key="c").status == NodeStatus.HELD
    workflows.resume_execution(execution, by=TESTER, now=NOW)

    assert sorted(open_steps(execution)) == ["b", "c"]
    assert len(queries.dispatchable(now=NOW, limit=10)) == 2


def test_cancelled_execution_cancels_its_tasks() -> None:
    execution = started(save([{"key": "a"}, {"key": "b"}]))
    task = begin(open_steps(execution)["a"])

    workflows.cancel_execution(execution, reason="Not needed.", by=TESTER, now=NOW)

    assert set(execution.project.tasks.values_list("status", flat=True)) == {TaskStatus.CANCELLED}  # type: ignore[union-attr]
    task.refresh_from_db()
    assert execution.nodes.get(key="a").status == NodeStatus.CANCELLED


def test_more_tasks_than_a_plan_may_have_are_not_started() -> None:
    with pytest.raises(InvalidExecution, match="has 1,001 nodes of a role; at most 1,000 are started"):
        started(save([{"key": f"n{number}"} for number in range(1001)]))
    assert not Execution.objects.exists()


def test_many_tasks_that_become_ready_at_once_are_made_in_turns() -> None:
    execution = started(save([{"key": f"n{number}"} for number in range(450)]))
    assert len(open_steps(execution)) == steps.MAX_AT_ONCE

    assert [steps.begin_ready(now=NOW) for _ in range(3)] == [200, 50, 0]

    assert len(open_steps(execution)) == 450


def conflict_of(task: Task, **returned: Any) -> Task:
    """Have the change of a ready task conflict with main, and begin what resolves it."""
    told = Setback("conflict", "", {"conflict": {"paths": ["a"]}}, counts=False)
    given = {"summary": "done", "returned": returned}
    key = f"conflict-{task.key}"
    made = conflicts.open_conflict(begin(task), told, key=key, handed_in=given, by=TESTER, now=NOW)
    return made


def test_step_whose_change_conflicted_goes_on_with_what_its_own_agent_returned() -> None:
    execution = started(shipped("bug_fix"))
    conflict = conflict_of(open_steps(execution)["analysis"], reproduced=False)
    assert list(open_steps(execution)) == ["analysis"]

    tasks.complete_task(begin(conflict), {"summary": "Both.", "commit": "c0ffee"}, by=TESTER, now=NOW)

    assert list(open_steps(execution)) == ["not-reproduced"]
    assert execution.nodes.get(key="analysis").result["commit"] == "c0ffee"


def test_conflict_waits_with_its_paused_execution_and_ends_with_it() -> None:
    execution = started(save([{"key": "a"}]))
    root = open_steps(execution)["a"]
    below = root
    for level in range(3):  # as deep as tasks are added below each other
        task = TaskFactory(kind="step", project=root.project, parent=below, key=f"level-{level}")
        below = task
    conflict = conflict_of(below)
    workflows.pause_execution(execution, by=TESTER, now=NOW)
    assert conflict.pk not in {one.task_id for one in queries.dispatchable(now=NOW, limit=99)}
    workflows.resume_execution(execution, by=TESTER, now=NOW)
    assert conflict.pk in {one.task_id for one in queries.dispatchable(now=NOW, limit=99)}

    workflows.cancel_execution(execution, reason="", by=TESTER, now=NOW)
    tasks.cancel_left(now=NOW)
    conflict.refresh_from_db()
    assert (conflict.status, conflict.reason) == (TaskStatus.CANCELLED, "execution_over")
