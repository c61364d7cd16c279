"""The pages' tables of levels, and the history of limits."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing import actions, levels
from billing.errors import OverBudget
from billing.models import Budget, Reservation
from billing.prices import Usage
from projects.ids import new_id
from projects.models import Project
from tests.factories import AgentFactory, ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db
Reserve = Callable[..., Reservation]


@pytest.fixture
def ada(client: Client) -> Client:
    client.force_login(UserFactory(username="ada", is_superuser=True))
    return client


def money_page(client: Client, project: Project) -> Any:
    return client.get(reverse("project_money", args=[project.pk]))


def test_levels_of_a_project_go_from_the_account_to_its_agents(
    ada: Client, project: Project, reserve: Reserve, now: datetime
) -> None:
    agent = AgentFactory(project=project, name="developer-7")
    actions.open_budgets([actions.Opening(project, run_id=new_id(), run_limit=Decimal(1), agent_id=agent.pk)], now=now)
    reserve("1")
    actions.settle(reserve("2").pk, Usage(output_tokens=100_000), now=now)

    page = money_page(ada, project)

    shown = [(level.kind, level.name) for level in page.context["levels"]]
    assert shown[:3] == [("Account", "All projects"), ("Client", "The baker"), ("Project", "Bakery")]
    assert set(shown[3:]) == {("Agent", "gone"), ("Agent", "developer-7")}
    first = page.context["levels"][0].money
    assert (first.settled, first.reserved, first.left) == (Decimal("1.5"), 1, Decimal("997.5"))
    assert "developer-7" in page.content.decode()


def test_warnings_of_a_level_say_what_was_told_and_what_comes_next(
    ada: Client, project: Project, reserve: Reserve, now: datetime
) -> None:
    Budget.objects.filter(scope="project").update(limit=2)
    actions.settle(reserve("2").pk, Usage(output_tokens=100_000), now=now)

    page = money_page(ada, project).content.decode()

    assert "50 % told, next at 80 %" in page
    assert "50 % of the <span" in page
    assert "of the project are spent" in page


def test_history_says_who_changed_which_limit_that_binds_the_project(
    ada: Client, project: Project, run_id: Any, now: datetime
) -> None:
    other = ProjectFactory(client_name="Somebody else")
    actions.open_budgets([actions.Opening(other, run_id=new_id(), run_limit=Decimal(1))], now=now)
    for budget in Budget.objects.exclude(scope="run"):
        ada.post(reverse("budget_limit", args=[budget.pk]), {"limit": "600.5"})

    project.refresh_from_db()  # its client follows from its name
    history = levels.history_of_project(project)

    assert {one.level for one in history} == {"agent", "project", "client The baker", "account"}
    assert {(one.who, one.new) for one in history} == {("ada", Decimal("600.5"))}
    assert len(history) == 4
    assert len(levels.history_of_account()) == 3  # the account and two clients
    assert "$600.50" in money_page(ada, project).content.decode()
    assert "ada" in ada.get(reverse("budget")).content.decode()


def test_history_shows_what_did_not_fit(ada: Client, project: Project, reserve: Reserve) -> None:
    with pytest.raises(OverBudget):
        reserve("5")
    assert "A request of up to" in money_page(ada, project).content.decode()


@pytest.mark.parametrize(("scope", "limit"), [("client", None), ("agent", None), ("account", 1000)])
def test_limit_is_taken_away_where_none_is_needed(
    ada: Client, project: Project, run_id: Any, scope: str, limit: int | None
) -> None:
    budget = Budget.objects.get(scope=scope)
    ada.post(reverse("budget_limit", args=[budget.pk]), {"limit": "50"})
    Budget.objects.filter(scope="account").update(limit=1000)
    answer = ada.post(reverse("budget_limit", args=[budget.pk]), {"limit": ""}, follow=True)

    assert Budget.objects.get(scope=scope).limit == limit
    assert (b"always has a limit" in answer.content) is (scope == "account")


@pytest.mark.parametrize("limit", ["0", "-1", "much", "NaN", "1e99"])
def test_impossible_limit_is_refused_in_words(ada: Client, run_id: Any, limit: str) -> None:
    budget = Budget.objects.get(scope="client")
    answer = ada.post(reverse("budget_limit", args=[budget.pk]), {"limit": limit}, follow=True)

    assert b"above 0" in answer.content
    assert Budget.objects.get(pk=budget.pk).limit is None


def test_limit_of_a_run_or_of_nothing_is_not_found(ada: Client, run_id: Any) -> None:
    run = Budget.objects.get(scope="run")
    for key in (run.pk, new_id()):
        assert ada.post(reverse("budget_limit", args=[key]), {"limit": "50"}).status_code == 404


def test_others_look_and_change_nothing(client: Client, project: Project, run_id: Any) -> None:
    client.force_login(UserFactory())
    budget = Budget.objects.get(scope="client")

    assert client.post(reverse("budget_limit", args=[budget.pk]), {"limit": "50"}).status_code == 403
    page = money_page(client, project).content.decode()
    assert "The baker" in page
    assert reverse("budget_limit", args=[budget.pk]) not in page


@pytest.mark.parametrize("scope", ["account", "client", "project", "agent"])
def test_each_threshold_of_each_level_is_news_once_and_again_after_a_raise(
    run_id: Any, reserve: Reserve, scope: str, now: datetime
) -> None:
    Budget.objects.filter(scope="run").update(limit=90)
    Budget.objects.filter(scope="project").update(limit=90)
    Budget.objects.filter(scope=scope).update(limit=15)
    for _ in range(10):
        actions.settle(reserve("1.5").pk, Usage(output_tokens=100_000), now=now)
    actions.set_limit(Budget.objects.get(scope=scope), Decimal(20), by=actions.CASHIER, now=now)
    for _ in range(3):
        actions.settle(reserve("1.5").pk, Usage(output_tokens=100_000), now=now)

    rows = levels.AuditLog.objects.filter(event_type="budget:warning", details__scope=scope).order_by(
        "timestamp", "seq"
    )
    # Of 15: at 7.5, 12 and 15. Of 20, where 15 are spent already: 16.5 is more than 80, 19.5 more than 95 percent.
    assert [row.details["percent"] for row in rows] == [50, 80, 95, 80, 95]
