"""What the world is told of agents: the four events of theirs, with all that is in them."""

from typing import Any

import pytest

from agents.actions import agents, runs
from agents.models import Agent, Run
from projects.models import AuditLog
from tests.factories import NOW, TESTER, AgentFactory, ProjectFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


def told(event_type: str) -> list[dict[str, Any] | None]:
    """The payloads of all events of a type, in order."""
    return list(AuditLog.objects.filter(event_type=event_type).order_by("seq").values_list("event_payload", flat=True))


def working_run() -> Run:
    return RunFactory(status="running", task=TaskFactory(status="in_progress", title="Lend a drill"))


def test_each_member_of_a_squad_is_told_as_spawned() -> None:
    project = ProjectFactory()

    agents.spawn_agents([project.pk], by=TESTER, now=NOW)

    squad = list(Agent.objects.filter(project=project).order_by("pk"))
    assert len(squad) > 2
    assert told("agent:spawned") == [
        {"projectId": str(project.pk), "agentId": str(agent.pk), "agentType": agent.agent_type} for agent in squad
    ]


def test_beginning_is_told_with_the_task() -> None:
    agent = AgentFactory()
    task = TaskFactory(project=agent.project, title="Lend a drill")

    agents.begin_work([(agent, task)], by=TESTER, now=NOW)

    payload = {"agentId": str(agent.pk), "taskId": str(task.pk), "description": "Lend a drill"}
    assert told("agent:working") == [payload]


def test_success_is_told_with_its_result() -> None:
    run = working_run()

    runs.succeed(run, result={"summary": "It lends."}, now=NOW)

    payload = {"agentId": str(run.agent_id), "taskId": str(run.task_id), "result": "completed"}
    assert told("agent:completed") == [payload]


@pytest.mark.parametrize("needs_admin", [True, False])
def test_a_question_is_told_with_who_has_to_answer(needs_admin: bool) -> None:
    run = working_run()

    runs.wait_for_answer(run, reason="blocked", detail="Which colour?", needs_admin=needs_admin, now=NOW)

    payload = {"agentId": str(run.agent_id), "reason": "Which colour?", "needsAdmin": needs_admin}
    assert told("agent:blocked") == [payload]


def test_a_bad_end_is_none_of_the_four() -> None:
    run = working_run()

    runs.fail(run, runs.Ending(runs.RunStatus.FAILED, "looping", "Again."), now=NOW)

    assert not AuditLog.objects.filter(event_type__startswith="agent:").exists()
    assert AuditLog.objects.filter(action="agent.failed", object_id=str(run.agent_id)).exists()
