"""The pages of money."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import LedgerEntry
from billing.pages import CHART_H, daily
from projects.models import Project
from tests.factories import BudgetFactory, LedgerEntryFactory, ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def test_money_of_a_new_project_says_that_nothing_was_spent(admin_in: Client) -> None:
    page = admin_in.get(reverse("project_money", args=[ProjectFactory().pk])).content.decode()

    assert "Nothing was spent yet" in page
    assert "$25.00" in page


def test_money_shows_the_budget_as_it_stands(admin_in: Client) -> None:
    budget = BudgetFactory(limit=Decimal(10), settled=Decimal(7), reserved=Decimal(1))

    money = admin_in.get(reverse("project_money", args=[budget.project_id])).context["money"]

    assert (money.percent, money.left, money.tone) == (80, Decimal(2), "wait")


def test_the_total_is_the_sum_of_settled_and_adjusted_lines(admin_in: Client) -> None:
    project = ProjectFactory()
    for kind, amount in (("reserve", "5"), ("settle", "1.25"), ("adjust", "-0.25"), ("release", "2")):
        LedgerEntryFactory(project_id=project.pk, kind=kind, amount=Decimal(amount))
    LedgerEntryFactory(amount=Decimal(99))

    context = admin_in.get(reverse("project_money", args=[project.pk])).context

    assert context["total"] == Decimal(1)
    assert len(context["page"].items) == 4


def test_every_line_shows_its_amount_to_the_last_digit(admin_in: Client) -> None:
    line = LedgerEntryFactory(project_id=ProjectFactory().pk, amount=Decimal("0.001234"))

    page = admin_in.get(reverse("project_money", args=[line.project_id])).content.decode()

    assert 'title="0.001234 USD">&lt;$0.01<' in page


def test_limit_is_changed(admin_in: Client) -> None:
    project = ProjectFactory()

    admin_in.post(reverse("project_limit", args=[project.pk]), {"limit": "40.50"})

    assert Project.objects.get().budget_limit == Decimal("40.5")


@pytest.mark.parametrize("limit", ["", "0", "-1", "much", "NaN", "1e99"])
def test_limit_refuses_what_is_none(admin_in: Client, limit: str) -> None:
    project = ProjectFactory()

    response = admin_in.post(reverse("project_limit", args=[project.pk]), {"limit": limit}, follow=True)

    assert b'role="status"' in response.content
    assert Project.objects.get().budget_limit == Decimal(25)


def test_limit_cannot_fall_below_what_is_spent(admin_in: Client) -> None:
    budget = BudgetFactory(settled=Decimal(7))

    response = admin_in.post(reverse("project_limit", args=[budget.project_id]), {"limit": "5"}, follow=True)

    assert b"the limit cannot be lower" in response.content


def test_budget_shows_what_each_project_cost(admin_in: Client) -> None:
    project = ProjectFactory(name="Boat house")
    LedgerEntryFactory(project_id=project.pk, amount=Decimal("3.5"), created_at=timezone.now())

    response = admin_in.get(reverse("budget"))

    assert response.context["by_project"] == [(project, Decimal("3.5"), False)]
    assert response.context["total"] == Decimal("3.5")


def test_daily_has_a_bar_for_each_day_the_highest_filling_the_chart() -> None:
    now = timezone.now()
    LedgerEntryFactory(amount=Decimal(4), created_at=now)
    LedgerEntryFactory(amount=Decimal(1), created_at=now - timedelta(days=2))
    LedgerEntryFactory(amount=Decimal(9), created_at=now - timedelta(days=30))

    bars = daily(now)

    assert len(bars) == 14
    assert [bar.amount for bar in bars[-3:]] == [Decimal(1), Decimal(0), Decimal(4)]
    assert (bars[-1].height, bars[-3].height) == (CHART_H, CHART_H // 4)


def test_spend_today_counts_only_today(admin_in: Client) -> None:
    LedgerEntryFactory(amount=Decimal("1.5"), created_at=timezone.now())
    LedgerEntryFactory(amount=Decimal(7), created_at=timezone.now() - timedelta(days=1))
    LedgerEntryFactory(amount=Decimal(7), created_at=timezone.now(), kind=LedgerEntry.Kind.RESERVE)

    page = admin_in.get(reverse("home")).content.decode()

    assert 'data-spend-today="$1.50"' in page
