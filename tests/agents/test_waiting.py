"""The page of a task says why a ready one is not at work yet."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.actions.dispatch import dispatch
from agents.models import Agent, Worker
from agents.waiting import why_waiting
from projects.models import Project, Squad, Task
from projects.roles import Role
from projects.states import TaskKind
from tests.factories import (
    NOW,
    ExecutionFactory,
    ExecutionNodeFactory,
    ProjectFactory,
    TaskFactory,
    UserFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(settings: LazySettings) -> Task:
    """A developer's task that waits beside one of the same project that is at work, under limits that are reached."""
    worker = WorkerFactory(capacity=9)
    project = ProjectFactory(status="building")
    TaskFactory(project=project, role=Role.DEVELOPER)
    assert len(dispatch(now=NOW)) == 1
    assert worker.runs.count() == 1
    return TaskFactory(project=project, role=Role.DEVELOPER, next_attempt_at=NOW)


def _house_is_full(_: Task, settings: LazySettings) -> None:
    settings.EKLAVYA_MAX_CONCURRENT_RUNS = 1


def _role_is_full(_: Task, settings: LazySettings) -> None:
    settings.EKLAVYA_ROLE_LIMITS = {"developer": 1}


def _tool_is_used(_: Task, settings: LazySettings) -> None:
    settings.EKLAVYA_TOOL_LIMITS = {"claude_code": 1}


def _squad_is_full(task: Task, _: LazySettings) -> None:
    Squad.objects.filter(project=task.project_id).update(max_concurrent_runs=1)


def _nobody_is_free(task: Task, _: LazySettings) -> None:
    TaskFactory(project=task.project, role=Role.DEVELOPER, priority=9)
    assert len(dispatch(now=NOW)) == 1


def _nobody_is_of_the_role(task: Task, _: LazySettings) -> None:
    Agent.objects.filter(project=task.project_id, agent_type=Role.DEVELOPER).update(agent_type=Role.MENTOR)


def _no_worker_has_room(_: Task, __: LazySettings) -> None:
    Worker.objects.update(capacity=1)


def _is_sensitive(task: Task, _: LazySettings) -> None:
    Project.objects.filter(pk=task.project_id).update(config={"privacy": "sensitive"})
    task.refresh_from_db()
    Worker.objects.update(trust="normal")


def _is_tried_later(task: Task, _: LazySettings) -> None:
    task.next_attempt_at = NOW + timedelta(seconds=1)
    task.save()


def _project_is_paused(task: Task, _: LazySettings) -> None:
    Project.objects.filter(pk=task.project_id).update(status="paused", paused_from="building")
    task.refresh_from_db()


def _execution_is_paused(task: Task, _: LazySettings) -> None:
    Task.objects.filter(pk=task.pk).update(kind=TaskKind.STEP, plan=None)
    task.refresh_from_db()
    ExecutionNodeFactory(execution=ExecutionFactory(status="paused", project=task.project), task=task, kind="task")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_house_is_full, "as the house may have at a time: 1 (EKLAVYA_MAX_CONCURRENT_RUNS)"),
        (_role_is_full, "agents of the role Developer are at work as the house may have at a time: 1"),
        (_tool_is_used, "As many agents use claude_code as may at a time: 1"),
        (_squad_is_full, "as its squad may have at a time: 1"),
        (_nobody_is_free, "No Developer of its project's squad is free"),
        (_nobody_is_of_the_role, "Its project's squad has no Developer"),
        (_no_worker_has_room, "No worker has room for it"),
        (_is_sensitive, "No worker that may see sensitive projects has room for it"),
        (_is_tried_later, "It is tried again after a pause"),
        (_project_is_paused, "Its project is not being worked on"),
        (_execution_is_paused, "Its workflow is paused"),
    ],
)
def test_a_ready_task_says_what_it_waits_for_and_is_left_by_the_dispatcher(
    task: Task, change: Callable[[Task, LazySettings], None], sentence: str, settings: LazySettings
) -> None:
    assert why_waiting(task, now=NOW) == "It begins in a moment."

    change(task, settings)

    with CaptureQueriesContext(connection) as found:
        assert sentence in why_waiting(task, now=NOW)
    assert len(found) <= 9
    assert dispatch(now=NOW) == []


def test_what_waits_for_nothing_is_begun(task: Task) -> None:
    assert why_waiting(task, now=NOW) == "It begins in a moment."
    assert len(dispatch(now=NOW)) == 1
    task.refresh_from_db()
    assert why_waiting(task, now=NOW) == ""


def test_page_of_a_task_says_it(task: Task, client: Client, settings: LazySettings) -> None:
    client.force_login(UserFactory(is_superuser=True))
    settings.EKLAVYA_ROLE_LIMITS = {"developer": 1}
    Task.objects.filter(pk=task.pk).update(reason="worker_stopping", detail="The worker was stopped.")

    page = client.get(reverse("task", args=[task.pk])).content.decode()
    settings.EKLAVYA_ROLE_LIMITS = {}
    dispatch(now=NOW)
    begun = client.get(reverse("task", args=[task.pk])).content.decode()

    assert "Ready, and not at work yet" in page
    assert "1 (EKLAVYA_ROLE_LIMITS)" in page
    assert "Ready, and not at work yet" not in begun
    assert page.index("Ready, and not at work yet") < page.index("Last time: worker stopping")
    assert "Last time" not in begun
