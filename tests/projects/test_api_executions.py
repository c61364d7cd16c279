"""Workflows, executions and the verbs of nodes and tasks, for programs."""

from typing import Any

import pytest

from accounts.roles import AccountRole
from projects.actions import workflows
from projects.models import AuditLog, Execution, Task
from projects.states import NodeStatus
from tests.accounts.making import person
from tests.accounts.test_api import Program, said
from tests.factories import NOW, TESTER, ProjectFactory, TaskFactory
from tests.projects.workflows.test_steps import do, open_steps, save, shipped, started

pytestmark = pytest.mark.django_db


@pytest.fixture
def writer() -> Program:
    return Program(person(AccountRole.OPERATOR, "asha"), "projects:read", "projects:write")


def test_program_starts_a_workflow_once_by_its_key_and_follows_it(writer: Program) -> None:
    project = ProjectFactory(status="building")
    workflows.load_shipped(by=TESTER, now=NOW)
    assert {row["key"] for row in writer.get("/workflows/").json()["results"]} >= {"bug_fix", "main_job"}
    sent = {"workflow": "bug_fix", "key": "ticket-7", "input": {"request": "Dates."}}

    first = writer.post(f"/projects/{project.pk}/executions/", sent)
    again = writer.post(f"/projects/{project.pk}/executions/", sent)

    assert (first.status_code, first.json()["id"]) == (201, again.json()["id"])
    execution = Execution.objects.get()
    do(execution, "analysis", reproduced=True)
    base = f"/executions/{execution.pk}"
    assert writer.get(f"{base}/").json()["status"] == "running"
    nodes = {row["key"]: row for row in writer.get(f"{base}/nodes/").json()["results"]}
    assert nodes["analysis"]["result"]["reproduced"] is True
    assert nodes["regression-test"]["task_id"] == str(open_steps(execution)["regression-test"].pk)
    assert {row["event"] for row in writer.get(f"{base}/log/").json()["results"]} == {"begun", "completed", "skipped"}
    (listed,) = writer.get(f"/projects/{project.pk}/executions/").json()["results"]
    assert (listed["workflow"], listed["version"], listed["key"]) == ("bug_fix", 1, "ticket-7")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 400),
        ({"workflow": "none"}, 400),
        ({"workflow": "bug_fix", "version": 9}, 400),
        ({"workflow": "bug_fix", "input": ["x"]}, 400),
        ({"workflow": "bug_fix", "input": {"x": "x" * 300_000}}, 400),
        ({"workflow": "main_job"}, 409),
    ],
)
def test_what_cannot_be_started_is_refused(writer: Program, sent: dict[str, Any], status: int) -> None:
    project = ProjectFactory(status="building")
    workflows.load_shipped(by=TESTER, now=NOW)
    answer = writer.post(f"/projects/{project.pk}/executions/", sent)
    assert answer.status_code == status
    assert said(answer)
    assert not Execution.objects.exists()
    recorded = AuditLog.objects.filter(action="execution.refused", project_id=project.pk).values_list(
        "details", flat=True
    )
    assert [told["workflow"] for told in recorded] == (["main_job"] if status == 409 else [])


def test_verbs_of_executions_and_nodes(writer: Program) -> None:
    execution = started(shipped("bug_fix"))
    base = f"/executions/{execution.pk}"
    for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert writer.post(f"{base}/{verb}/", {"reason": "Why not."}).json()["status"] == status
    assert writer.post(f"{base}/pause/").status_code == 409

    assert writer.post(f"{base}/nodes/analysis/retry/").json()["status"] == "running"
    assert "one must be given" in said(writer.post(f"{base}/nodes/analysis/skip/"))
    writer.post(f"{base}/nodes/analysis/skip/", {"result": {"reproduced": True}})

    assert execution.nodes.get(key="regression-test").status == NodeStatus.RUNNING


def test_verbs_of_tasks(writer: Program) -> None:
    task = TaskFactory(status="blocked")
    assert writer.post(f"/tasks/{task.pk}/reassign/", {"role": "sre"}).json()["role"] == "sre"
    assert writer.post(f"/tasks/{task.pk}/reassign/", {"role": "wizard"}).status_code == 400
    assert writer.post(f"/tasks/{task.pk}/retry/").json()["status"] == "ready"
    assert writer.post(f"/tasks/{task.pk}/skip/").json()["status"] == "cancelled"
    assert "cannot become" in said(writer.post(f"/tasks/{task.pk}/skip/"))


def test_key_of_one_project_reaches_nothing_of_another() -> None:
    mine, other = ProjectFactory(status="building"), started(save([{"key": "a"}]))
    program = Program(person(AccountRole.ADMIN), "projects:read", "projects:write", project_id=mine.pk)
    task = Task.objects.get()
    for path in (f"/executions/{other.pk}/cancel/", f"/executions/{other.pk}/nodes/a/skip/", f"/tasks/{task.pk}/skip/"):
        assert program.post(path).status_code == 404
    assert program.get(f"/executions/{other.pk}/").status_code == 404
