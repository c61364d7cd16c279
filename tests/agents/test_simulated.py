"""What the rehearsal model made, and what it would have cost, says so."""

from pathlib import Path
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from agents.actions import leases
from agents.models import Run
from agents.queries import is_simulated
from agents.supervisor import workplace
from billing.statements import ACCOUNT_ID
from projects.states import ProjectStatus
from tests.factories import (
    NOW,
    AgentFactory,
    ApprovalFactory,
    BudgetFactory,
    LedgerEntryFactory,
    ProjectFactory,
    RunFactory,
    SecretFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(settings: Settings, request: pytest.FixtureRequest) -> str:
    settings.EKLAVYA_MODEL_MODE = request.param
    return str(request.param)


@pytest.mark.parametrize(("house", "rehearsal"), [("rehearsal", True), ("real", False)], indirect=["house"])
def test_a_run_remembers_which_model_answers_it(house: str, rehearsal: bool) -> None:
    run = RunFactory()
    leases.hold_run(run, owner="test", prompt_version_id=uuid4(), now=NOW)
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


MARK = ">simulated</span>"


def spend(run: Run) -> None:
    """Leave a settled dollar of the run in the ledger, and a budget of each level that knows of it."""
    LedgerEntryFactory(project_id=run.project_id, run_id=run.pk, agent_id=run.agent_id, amount=1)
    for scope, key in (("account", ACCOUNT_ID), ("project", run.project_id), ("agent", run.agent_id)):
        project = None if scope == "account" else run.project
        BudgetFactory(scope=scope, scope_id=key, project=project, limit=25, settled=1)


def pages_of(client: Client, run: Run) -> dict[str, str]:
    """Every page that shows money."""
    asked = ApprovalFactory(project=run.project)
    ofs = {
        "home": [],
        "projects": [],
        "project": [run.project_id],
        "approval": [asked.pk],
        "agents": [],
        "budget": [],
        "project_money": [run.project_id],
        "project_runs": [run.project_id],
        "task": [run.task_id],
        "run": [run.pk],
    }
    return {name: client.get(reverse(name, args=args)).content.decode() for name, args in ofs.items()}


@pytest.mark.parametrize(("mode", "rehearsal"), [("rehearsal", True), ("real", False)])
def test_every_page_of_money_says_so(client: Client, settings: Settings, mode: str, rehearsal: bool) -> None:
    settings.EKLAVYA_MODEL_MODE = mode
    client.force_login(UserFactory(is_superuser=True))
    project = ProjectFactory(status=ProjectStatus.COMPLETE)
    run = RunFactory(task__project=project, status="running", started_at=NOW, rehearsal=rehearsal)
    spend(run)

    found = {name: page.count(MARK) for name, page in pages_of(client, run).items()}

    beside = {
        "home": 1,  # the delivered project
        "projects": 1,  # its card
        "project": 1,
        "approval": 1,  # spent so far
        "agents": 2,  # the run and the agent
        "budget": 6,  # the meter, the account's level, the days, the project, the model, the total
        "project_money": 7,  # the meter, three levels, the model, its total, the ledger's sum
        "project_runs": 1,
        "task": 1,
        "run": 1,
    }
    # and one beside "Spent today" everywhere
    assert found == {name: (count + 1) * rehearsal for name, count in beside.items()}


def test_beside_a_project_that_paid_a_rehearsed_one_is_still_marked(client: Client, settings: Settings) -> None:
    settings.EKLAVYA_MODEL_MODE = "rehearsal"
    client.force_login(UserFactory(is_superuser=True))
    paid = RunFactory(status="running", started_at=NOW, rehearsal=False)
    faked = RunFactory(status="running", started_at=NOW, rehearsal=True)
    LedgerEntryFactory(project_id=paid.project_id, run_id=paid.pk)
    LedgerEntryFactory(project_id=faked.project_id, run_id=faked.pk)

    cards = client.get(reverse("projects")).content.decode().split('<article class="pcard"')[1:]
    assert [(str(faked.project_id) in card, MARK in card) for card in cards] == [(True, True), (False, False)]
    page = client.get(reverse("budget")).content.decode()
    # the model has a line for each, and the total of both is nobody's
    assert (page.count(MARK), page.count(">rehearsal <")) == (2, 1)


@pytest.mark.parametrize("rehearsal", [True, False])
def test_what_answered_in_place_of_a_model_is_named(client: Client, settings: Settings, rehearsal: bool) -> None:
    settings.EKLAVYA_MODEL_MODE = "rehearsal" if rehearsal else "real"
    client.force_login(UserFactory(is_superuser=True))
    run = RunFactory(status="running", started_at=NOW, rehearsal=rehearsal)
    LedgerEntryFactory(project_id=run.project_id, run_id=run.pk, model=run.model)
    pages = pages_of(client, run)

    named = {name: pages[name].count(f'>rehearsal <span class="faint">as {run.model}<') for name in pages}

    assert {name: count for name, count in named.items() if count} == (
        {"agents": 1, "budget": 1, "project_money": 2, "run": 1} if rehearsal else {}
    )


def test_an_agent_that_never_worked_is_named_by_what_would_answer(client: Client, settings: Settings) -> None:
    settings.EKLAVYA_MODEL_MODE = "rehearsal"
    client.force_login(UserFactory(is_superuser=True))
    agent = AgentFactory()

    assert ">rehearsal <" in client.get(reverse("agents")).content.decode()
    SecretFactory(project=agent.project, name="ANTHROPIC_API_KEY")
    assert ">rehearsal <" not in client.get(reverse("agents")).content.decode()


def test_a_key_of_the_house_makes_it_owe_its_money(client: Client, settings: Settings) -> None:
    settings.EKLAVYA_MODEL_MODE = "rehearsal"
    client.force_login(UserFactory(is_superuser=True))
    assert MARK in client.get(reverse("workers")).content.decode()
    SecretFactory(project=None, name="ANTHROPIC_API_KEY")
    assert MARK not in client.get(reverse("workers")).content.decode()


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
