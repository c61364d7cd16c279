"""Which tasks an agent's work lets begin, asked before it is taken."""

import pytest

from agents.queries import expected_after
from projects.models import Task
from projects.roles import Role
from projects.states import TaskKind
from tests.factories import AgentFactory, PlanFactory, ProjectFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


def expected(task: Task, *, limit: int = 9) -> list[tuple[str, str]]:
    return [(one.key, agent.agent_type) for one, agent in expected_after(task, limit=limit)]


def test_what_waits_for_work_that_is_handed_in_and_for_nothing_else_is_expected() -> None:
    project = ProjectFactory(status="building")
    for role in (Role.DEVELOPER, Role.TESTER):
        AgentFactory(project=project, agent_type=role)
    first, second = (TaskFactory(project=project, status="in_progress", key=key) for key in ("first", "second"))
    for key, role, waits_for in (
        ("alone", Role.DEVELOPER, [first]),
        ("both", Role.TESTER, [first, second]),
        ("nobody", Role.QA, [first]),
        ("other", Role.TESTER, [second]),
    ):
        TaskFactory(project=project, role=role, status="pending", key=key, depends_on=waits_for)
    RunFactory(task=first, status="running", outcome={"verb": "task_complete"})
    other = RunFactory(task=second, status="running")

    assert expected(first) == [("alone", "developer")], "the other one is still at work"

    other.outcome = {"verb": "task_complete"}
    other.save(update_fields=["outcome"])
    assert set(expected(first)) == {("alone", "developer"), ("both", "tester")}
    assert len(expected(first, limit=1)) == 1


@pytest.mark.parametrize(
    ("kind", "status", "found"),
    [
        (TaskKind.REQUIREMENTS, "planning", ["architect"]),
        (TaskKind.PLAN, "planning", ["developer"]),
        (TaskKind.DEMO, "demo", ["developer"]),  # of the two tasks of the plan the one that waits for nothing
        (TaskKind.MENTOR, "building", []),
    ],
)
def test_the_next_stage_is_expected_before_its_tasks_are_made(kind: TaskKind, status: str, found: list[str]) -> None:
    project = ProjectFactory(status=status)
    AgentFactory(project=project, agent_type=Role.ARCHITECT)
    AgentFactory(project=project, agent_type=Role.DEVELOPER)
    if kind == TaskKind.DEMO:
        PlanFactory(project=project, status="active")

    assert [role for _, role in expected(TaskFactory(project=project, kind=kind))] == found
