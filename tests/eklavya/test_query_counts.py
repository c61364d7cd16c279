"""What a page costs does not depend on how much it shows."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.states import RunStatus
from projects.actions.chat import post_message
from projects.actors import Actor
from projects.models import Project
from projects.states import ApprovalStatus, ProjectStatus, TaskStatus
from tests.factories import (
    NOW,
    ApprovalFactory,
    DemoFactory,
    DemoFeedbackFactory,
    ExecutionFactory,
    LedgerEntryFactory,
    ProjectFactory,
    RequirementFactory,
    RunFactory,
    TaskFactory,
    UserFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db


def fill_house(project: Project) -> None:
    """Add one of everything that the pages of the house list."""
    ApprovalFactory()
    ApprovalFactory(status=ApprovalStatus.APPROVED, decided_by=UserFactory())
    ProjectFactory(status=ProjectStatus.COMPLETE)
    RunFactory(status=RunStatus.RUNNING, worker=WorkerFactory())
    LedgerEntryFactory(project_id=ProjectFactory().pk)
    post_message(ProjectFactory(), "News.", by=Actor.system("pm"), now=NOW)
    ExecutionFactory()


def fill_project(project: Project) -> None:
    """Add one of everything that the tabs of a project list."""
    task = TaskFactory(project=project, status=TaskStatus.IN_PROGRESS)
    RunFactory(task=task, status=RunStatus.RUNNING, worker=WorkerFactory())
    RequirementFactory(project=project)
    DemoFeedbackFactory(demo=DemoFactory(project=project, status="expired"), user=UserFactory())
    LedgerEntryFactory(project_id=project.pk)
    post_message(project, "News.", by=Actor.system("pm"), now=NOW)
    ExecutionFactory(project=project)


HOUSE = ["home", "projects", "approvals", "approvals?show=decided", "agents", "workers", "budget", "audit"]
HOUSE += ["workflows"]
TABS = ["project", "project_board", "project_plan", "project_executions", "project_runs"]
TABS += ["project_demos", "project_money", "project_audit"]


@pytest.mark.parametrize(
    ("name", "fill"), [(name, fill_house) for name in HOUSE] + [(name, fill_project) for name in TABS]
)
def test_a_longer_page_asks_the_database_no_more_often(
    client: Client, name: str, fill: Callable[[Project], Any]
) -> None:
    client.force_login(UserFactory(is_superuser=True))
    project = ProjectFactory(status=ProjectStatus.BUILDING)
    name, _, query = name.partition("?")
    path = reverse(name, args=[project.pk] if fill is fill_project else []) + f"?{query}"
    fill(project)
    client.get(path)

    with CaptureQueriesContext(connection) as short:
        assert client.get(path).status_code == 200
    for _ in range(6):
        fill(project)
    with CaptureQueriesContext(connection) as long:
        client.get(path)

    assert len(long) == len(short) <= 20
