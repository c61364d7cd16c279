from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.auth.models import User

from billing.models import Budget
from projects.actions import approvals, projects
from projects.actions.approvals import Decision
from projects.actors import Actor
from projects.errors import InvalidDecision
from projects.models import Approval, Project
from projects.states import ApprovalKind

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Actor:
    return Actor.person(User.objects.create_user("ada"))


@pytest.fixture
def approval(project: Project, admin: Actor, now: datetime) -> Approval:
    """A project that stopped because its money is used up, and the question what to do."""
    projects.pause_project(project, reason="The budget is used up.", by=admin, now=now)
    return approvals.ask(project, ApprovalKind.BUDGET, subject_id=project.pk, title="Raise?", by=admin, now=now)


@pytest.mark.parametrize(
    "decision",
    [
        Decision("raise", comment="37.50"),
        Decision("raise", comment=" $37.5 "),
        Decision("raise", comment="because", answers=["37.50"]),
    ],
)
def test_raise_sets_the_limit_and_goes_on(approval: Approval, decision: Decision, admin: Actor, now: datetime) -> None:
    approvals.decide(approval.pk, decision, by=admin, now=now)

    approval.project.refresh_from_db()
    assert approval.project.status == "planning"
    assert approval.project.budget_limit == Decimal("37.5")
    assert Budget.objects.get(scope="project").limit == Decimal("37.5")


@pytest.mark.parametrize("said", ["", "more", "0", "-5", "+0", "+-5", "NaN", "+Infinity", "Infinity", "1e99", "1" * 40])
def test_raise_without_a_usable_number_changes_nothing(
    approval: Approval, said: str, admin: Actor, now: datetime
) -> None:
    with pytest.raises(InvalidDecision):
        approvals.decide(approval.pk, Decision("raise", comment=said), by=admin, now=now)

    approval.refresh_from_db()
    approval.project.refresh_from_db()
    assert approval.is_open
    assert approval.project.status == "paused"


@pytest.mark.parametrize("scope", ["account", "client", "project", "agent"])
@pytest.mark.parametrize(("said", "limit"), [("37.50", "37.5"), ("+ 5", "13"), ("+$5", "13")])
def test_raise_means_the_budget_that_is_in_the_way(
    project: Project, run_id: UUID, admin: Actor, scope: str, said: str, limit: str, now: datetime
) -> None:
    Budget.objects.filter(scope=scope).update(limit=8)
    others = Budget.objects.exclude(scope=scope)
    before = set(others.values_list("scope", "limit"))
    projects.pause_project(project, reason="The budget is used up.", by=admin, now=now)
    budget = Budget.objects.get(scope=scope)
    approval = approvals.ask(project, ApprovalKind.BUDGET, subject_id=budget.pk, title="Raise?", by=admin, now=now)

    approvals.decide(approval.pk, Decision("raise", comment=said), by=admin, now=now)

    assert Budget.objects.get(scope=scope).limit == Decimal(limit)
    assert set(others.values_list("scope", "limit")) == before
    assert Project.objects.get().status == "planning"


def test_stop_gives_the_project_up(approval: Approval, admin: Actor, now: datetime) -> None:
    approvals.decide(approval.pk, Decision("stop"), by=admin, now=now)

    approval.project.refresh_from_db()
    assert approval.project.status == "cancelled"
