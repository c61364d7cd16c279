import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from agents import delivery, sandboxes
from agents.models import Agent, Verification
from agents.sandboxes import repository, runtime
from projects.models import AuditLog, Notification, Project, Task
from projects.states import ProjectStatus
from tests.agents.supervisor.line import PRODUCT, seed
from tests.factories import NOW, AgentFactory, ProjectFactory, TaskFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _local(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield
    sandboxes.choice.cache_clear()


def built() -> Project:
    project: Project = ProjectFactory(status="building")
    TaskFactory(project=project, status="completed")
    return project


def deliver(project: Project, *, later: timedelta = timedelta(0)) -> Project:
    delivery.deliver(project.pk, clock=lambda: timezone.now() + later)
    project.refresh_from_db()
    return project


def test_a_built_project_that_works_is_complete() -> None:
    project = built()
    agent = AgentFactory(project=project)
    commit = seed(project)

    deliver(project)

    assert (project.status, project.delivered_commit) == (ProjectStatus.COMPLETE, commit)
    seen = Verification.objects.get(project=project)
    assert (seen.purpose, seen.passed, seen.commit, seen.run) == ("delivery", True, commit, None)
    assert Agent.objects.get(pk=agent.pk).status == "terminated"
    assert runtime().list_sandboxes() == ()


def test_a_built_project_that_does_not_work_is_paused_with_the_reason() -> None:
    project = built()
    seed(project, {"docs/notes.md": "No application.\n"})

    deliver(project)

    assert (project.status, project.paused_from) == (ProjectStatus.PAUSED, ProjectStatus.BUILDING)
    assert project.status_reason.startswith("The delivery check failed: ")
    assert not Verification.objects.get(project=project).passed


def seed_what_needs(path: Path, project: Project) -> None:
    """An application that ends at once where a file is missing, as one does on a full disk."""
    seed(project, PRODUCT | {"app/__main__.py": f"open({str(path)!r})\n" + PRODUCT["app/__main__.py"]})


def test_an_application_that_ended_once_is_started_again_later(tmp_path: Path) -> None:
    project = built()
    seed_what_needs(tmp_path / "room", project)

    assert deliver(project).status == ProjectStatus.BUILDING
    assert deliver(project).status == ProjectStatus.BUILDING  # too early
    assert Verification.objects.get(project=project).reason == "start_failed"
    (tmp_path / "room").touch()

    assert deliver(project, later=delivery.AGAIN_AFTER).status == ProjectStatus.COMPLETE


def test_a_project_whose_application_ends_twice_is_paused(tmp_path: Path) -> None:
    project = built()
    seed_what_needs(tmp_path / "room", project)
    deliver(project)

    deliver(project, later=delivery.AGAIN_AFTER)

    assert project.status == ProjectStatus.PAUSED
    assert project.status_reason == "The delivery check failed: The start command ended before it served anything."


def test_what_cannot_be_looked_at_for_a_full_disk_is_looked_at_later_and_later(
    settings: Settings, tmp_path: Path
) -> None:
    project = built()
    seed_what_needs(tmp_path / "room", project)
    settings.EKLAVYA_MIN_DISK_MB, enough = 10**9, settings.EKLAVYA_MIN_DISK_MB

    def look(after_s: int) -> str:
        delivery.deliver(project.pk, clock=lambda: NOW + timedelta(seconds=after_s))
        project.refresh_from_db()
        return project.status

    assert {look(after_s) for after_s in range(0, 90, 5)} == {ProjectStatus.BUILDING}
    traces = Verification.objects.order_by("created_at")
    assert [(one.reason, one.created_at - NOW) for one in traces] == [
        ("platform_error", timedelta(0)),
        ("platform_error", timedelta(seconds=30)),
    ]
    told = Notification.objects.get(title="The delivery check has to wait")
    assert "nearly full" in told.message
    assert AuditLog.objects.filter(action="commit.unseen").count() == 2
    assert not AuditLog.objects.filter(action="commit.refused").exists()

    settings.EKLAVYA_MIN_DISK_MB = enough
    assert look(90) == ProjectStatus.BUILDING, "now it counts, for the first time"
    (tmp_path / "room").touch()
    assert look(120) == ProjectStatus.COMPLETE


@pytest.mark.parametrize("status", ["planning", "demo", "paused", "cancelled", "archived"])
def test_a_project_that_is_not_being_built_is_left_alone(status: str) -> None:
    project = ProjectFactory(status=status)

    assert deliver(project).status == status
    assert not Verification.objects.exists()


def test_a_project_with_work_to_do_is_left_alone() -> None:
    project = built()
    TaskFactory(project=project)

    assert deliver(project).status == ProjectStatus.BUILDING
    assert not Verification.objects.exists()


def test_a_project_is_delivered_once() -> None:
    project = built()
    seed(project)
    deliver(project)

    deliver(project)

    assert Verification.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_looks() -> None:
    project = built()
    seed(project)

    def work() -> None:
        try:
            delivery.deliver(project.pk, clock=timezone.now)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    project.refresh_from_db()
    assert project.status == ProjectStatus.COMPLETE, project.status_reason
    assert Verification.objects.count() == 1


def test_a_project_cancelled_while_it_was_looked_at_stays_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    project = built()
    seed(project)
    commit = repository(project.pk).head()
    read = Project.objects.get(pk=project.pk)
    Project.objects.filter(pk=project.pk).update(status="cancelled")
    Task.objects.filter(project=project).update(reason="")

    delivery._look(read, clock=timezone.now)

    project.refresh_from_db()
    assert (project.status, project.delivered_commit) == (ProjectStatus.CANCELLED, "")
    assert Verification.objects.get().commit == commit
