"""Pages of those who may not: the button is missing or disabled, and pressing it anyhow is refused in words."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.roles import AccountRole
from projects.models import Approval, Project
from projects.states import ApprovalKind
from tests.accounts.making import person
from tests.factories import ApprovalFactory, BudgetFactory, DemoFactory, NotificationFactory, ProjectFactory

pytestmark = pytest.mark.django_db
VIEWER, OPERATOR, ADMIN = AccountRole
BRIEF = "We lend tools to our neighbours and want to know who has which one."


def signed_in(role: AccountRole) -> Client:
    client = Client()
    client.force_login(person(role))
    return client


@pytest.mark.parametrize(("role", "shown"), [(VIEWER, False), (OPERATOR, True), (ADMIN, True)])
def test_who_cannot_start_a_project_sees_no_composer(role: AccountRole, shown: bool) -> None:
    NotificationFactory()

    page = signed_in(role).get(reverse("home")).content.decode()

    assert ("Start project" in page) == shown
    assert ("Mark as read" in page) == shown
    assert ("this needs the role operator" in page) != shown


@pytest.mark.parametrize(("role", "shown"), [(VIEWER, False), (OPERATOR, True)])
def test_who_cannot_steer_a_project_sees_no_buttons_for_it(role: AccountRole, shown: bool) -> None:
    project = ProjectFactory(status="building")

    page = signed_in(role).get(reverse("project", args=[project.pk])).content.decode()

    assert (reverse("project_pause", args=[project.pk]) in page) == shown
    assert (reverse("project_cancel", args=[project.pk]) in page) == shown


@pytest.mark.parametrize("role", [VIEWER, OPERATOR])
def test_limit_is_disabled_with_the_reason_for_all_but_admins(role: AccountRole) -> None:
    budget = BudgetFactory()
    client = signed_in(role)

    page = client.get(reverse("project_money", args=[budget.project_id])).content.decode()
    answer = client.post(reverse("project_limit", args=[budget.project_id]), {"limit": "500"})

    assert "disabled data-refused" in page
    assert "this needs the role admin" in page
    assert answer.status_code == 403
    assert "this needs the role admin" in answer.content.decode()
    budget.refresh_from_db()
    assert budget.limit == 25


def test_viewer_sees_a_demo_and_cannot_decide_it() -> None:
    demo = DemoFactory()
    asked = ApprovalFactory(project=demo.project, kind=ApprovalKind.DEMO, subject_id=demo.pk)
    client = signed_in(VIEWER)

    page = client.get(reverse("project_demos", args=[demo.project_id])).content.decode()
    inbox = client.get(reverse("approval", args=[asked.pk])).content.decode()
    answer = client.post(reverse("approval", args=[asked.pk]), {"option": "approve"})

    assert page.count("disabled data-refused") == 3
    assert "disabled data-refused" in inbox
    assert answer.status_code == 403
    assert Approval.objects.get(pk=asked.pk).status == "pending"


def test_more_money_is_for_admins_to_decide() -> None:
    project = ProjectFactory()
    asked = ApprovalFactory(project=project, kind=ApprovalKind.BUDGET, subject_id=project.pk)

    answer = signed_in(OPERATOR).post(reverse("approval", args=[asked.pk]), {"option": "raise", "comment": "900"})

    assert answer.status_code == 403
    assert Approval.objects.get(pk=asked.pk).status == "pending"
    assert "disabled" not in signed_in(ADMIN).get(reverse("approval", args=[asked.pk])).content.decode()


@pytest.mark.parametrize(
    ("role", "limit", "status"),
    [(OPERATOR, "25", 302), (OPERATOR, "25.01", 403), (OPERATOR, "", 302), (ADMIN, "900", 302)],
)
def test_large_budget_of_a_new_project_is_for_admins(role: AccountRole, limit: str, status: int) -> None:
    answer = signed_in(role).post(reverse("project_new"), {"brief": BRIEF, "budget_limit": limit})

    assert answer.status_code == status
    assert Project.objects.count() == (status == 302)
    if status == 403:
        assert "an admin&#x27;s to give" in answer.content.decode()
