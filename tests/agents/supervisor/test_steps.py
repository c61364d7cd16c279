"""Shipped workflows: each of their tasks is done by the real CLI in a sandbox of its own."""

import pytest
from django.utils import timezone

from agents.rehearsal import builder
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor.keeper import LeaseKeeper
from projects.actions import workflows
from projects.actions.workflows import Start
from projects.models import Execution
from projects.states import ExecutionStatus, NodeStatus
from tests.agents.supervisor.line import BRIEF, assert_nothing_is_left, attempt, seed
from tests.factories import TESTER, ProjectFactory

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]


def start(key: str) -> Execution:
    """Start a template on a project whose main has an application."""
    project = ProjectFactory(status="building", description=BRIEF)
    seed(project, builder.build_app(BRIEF, []))
    found = {workflow.key: workflow for workflow in workflows.load_shipped(by=TESTER, now=timezone.now())}
    given = Start(input={"request": "A tool without an owner cannot be saved."})
    return workflows.start_execution(found[key], given, project=project, by=TESTER, now=timezone.now())


def do_next(execution: Execution, keeper: LeaseKeeper) -> str:
    """Have one of its tasks done, and return the node's key; nothing when none is left."""
    node = execution.nodes.filter(status=NodeStatus.RUNNING).order_by("position").first()
    if node is None:
        return ""
    assert node.task
    run = attempt(node.task, keeper)
    assert run.status == RunStatus.SUCCEEDED, run.detail
    assert_nothing_is_left(run)
    return node.key


def test_code_is_reviewed(keeper: LeaseKeeper) -> None:
    execution = start("code_review")

    done = list(iter(lambda: do_next(execution, keeper), ""))

    execution.refresh_from_db()
    assert done == ["static-analysis", "security-review", "report"]
    assert (execution.status, execution.detail) == (ExecutionStatus.COMPLETED, "")
    assert execution.result["report"]["commit"] == repository(execution.project_id).head()
    assert "Findings" in execution.result["report"]["summary"]


def test_what_an_agent_returns_decides_what_follows(keeper: LeaseKeeper) -> None:
    execution = start("bug_fix")

    assert do_next(execution, keeper) == "analysis"

    assert execution.nodes.get(key="analysis").result["reproduced"] is True
    assert dict(execution.nodes.values_list("key", "status"))["regression-test"] == NodeStatus.RUNNING
