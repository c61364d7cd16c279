"""What the rehearsal model made, and what it would have cost, says so."""

from pathlib import Path
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from agents.actions import runs
from agents.models import Run
from agents.queries import is_simulated
from agents.supervisor import workplace
from projects.states import ProjectStatus
from tests.factories import NOW, ProjectFactory, RunFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(settings: Settings, request: pytest.FixtureRequest) -> str:
    settings.EKLAVYA_MODEL_MODE = request.param
    return str(request.param)


@pytest.mark.parametrize(("house", "rehearsal"), [("rehearsal", True), ("real", False)], indirect=["house"])
def test_a_run_remembers_which_model_answers_it(house: str, rehearsal: bool) -> None:
    run = RunFactory()
    runs.hold_run(run, owner="test", prompt_version_id=uuid4(), now=NOW)
    assert Run.objects.get(pk=run.pk).rehearsal is rehearsal


@pytest.mark.parametrize("house", ["rehearsal", "real"], indirect=True)
def test_before_the_first_run_the_present_model_counts(house: str) -> None:
    assert is_simulated(ProjectFactory().pk) is (house == "rehearsal")


@pytest.mark.parametrize("house", ["rehearsal", "real"], indirect=True)
def test_one_paid_run_makes_a_projects_cost_real(house: str) -> None:
    run = RunFactory(status="running", started_at=NOW, rehearsal=True)
    assert is_simulated(run.project_id)
    RunFactory(task__project=run.project, status="running", started_at=NOW, rehearsal=False)
    assert not is_simulated(run.project_id)


@pytest.mark.parametrize("rehearsal", [True, False])
def test_pages_of_money_and_the_preview_say_so(client: Client, settings: Settings, rehearsal: bool) -> None:
    settings.EKLAVYA_MODEL_MODE = "rehearsal"
    client.force_login(UserFactory(is_superuser=True))
    run = RunFactory(status="running", started_at=NOW, rehearsal=rehearsal)
    pages = [client.get(reverse(name, args=[run.project_id])).content.decode() for name in ("project", "project_money")]
    pages.append(client.get(reverse("budget")).content.decode())
    pages.append(client.get(reverse("run", args=[run.pk])).content.decode())
    # one beside "Spent today", one beside the page's own sum
    assert [page.count(">simulated</span>") for page in pages] == [2 * rehearsal] * 4


def test_a_delivered_project_says_how_to_clone_it(client: Client) -> None:
    client.force_login(UserFactory(is_superuser=True))
    project = ProjectFactory(status=ProjectStatus.COMPLETE, delivered_commit="a" * 40)
    assert "git clone http" in client.get(reverse("project", args=[project.pk])).content.decode()


@pytest.mark.parametrize("rehearsal", [True, False])
def test_the_repository_of_a_rehearsal_says_so_from_its_first_commit(
    settings: Settings, tmp_path: Path, rehearsal: bool
) -> None:
    settings.EKLAVYA_VAR = tmp_path
    run = RunFactory(status="running", rehearsal=rehearsal)
    clone = tmp_path / "clone"
    workplace._check_out(run, clone)
    assert (clone / "REHEARSAL.md").exists() is rehearsal
    assert (clone / "README.md").exists()
