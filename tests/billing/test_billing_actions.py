from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from pytest_django import Settings

from billing import actions, queries
from billing.errors import InvalidLimit, NoBudget, OverBudget, ReservationClosed
from billing.models import Budget, LedgerEntry, Reservation
from billing.prices import Usage
from projects.actors import Actor
from projects.ids import new_id
from projects.models import AuditLog, Project

pytestmark = pytest.mark.django_db

Reserve = Callable[..., Reservation]
ADMIN = Actor.system("test")
AGENT = UUID(int=7)
LEVELS = ["account", "client", "project", "agent", "run"]
HUNDRED_THOUSAND_OUT = Usage(output_tokens=100_000)  # costs 1.5


def money(project: Project, run_id: UUID) -> dict[str, tuple[Decimal, Decimal]]:
    budgets = queries.budgets_of(project.pk, run_id, AGENT)
    return {budget.scope: (budget.reserved, budget.settled) for budget in budgets}


def everywhere(reserved: str, settled: str) -> dict[str, tuple[Decimal, Decimal]]:
    return dict.fromkeys(LEVELS, (Decimal(reserved), Decimal(settled)))


def lines(run_id: UUID) -> list[tuple[str, Decimal]]:
    return list(LedgerEntry.objects.filter(run_id=run_id).order_by("id").values_list("kind", "amount"))


def audited(action: str) -> list[AuditLog]:
    return list(AuditLog.objects.filter(action=action).order_by("seq"))


def test_open_budgets_twice_changes_nothing(project: Project, run_id: UUID, now: datetime) -> None:
    actions.open_budgets([actions.Opening(project, run_id=run_id, run_limit=Decimal(99))], now=now)

    limits = dict(Budget.objects.values_list("scope", "limit"))
    assert limits == {
        "account": Decimal(1000),
        "client": None,
        "project": Decimal(10),
        "agent": None,
        "run": Decimal(4),
    }


def test_budgets_of_a_run_go_from_the_widest_to_its_own(project: Project, run_id: UUID) -> None:
    assert [budget.scope for budget in queries.budgets_of(project.pk, run_id, AGENT)] == LEVELS


def test_open_budgets_follows_the_accounts_setting(
    project: Project, run_id: UUID, settings: Settings, now: datetime
) -> None:
    settings.EKLAVYA_ACCOUNT_LIMIT = Decimal(2000)
    actions.open_budgets([actions.Opening(project, run_id=run_id, run_limit=Decimal(4))], now=now)

    budget = queries.account_budget()
    assert budget is not None
    assert budget.limit == 2000
    [row] = audited("billing.limit_changed")
    assert (row.details["scope"], row.details["from"], row.details["to"]) == ("account", "1000.000000", "2000")


def test_open_budgets_leaves_an_account_limit_that_a_person_set(project: Project, run_id: UUID, now: datetime) -> None:
    actions.set_limit(Budget.objects.get(scope="account"), Decimal(1500), by=ADMIN, now=now)
    actions.open_budgets([actions.Opening(project, run_id=run_id, run_limit=Decimal(4))], now=now)

    assert Budget.objects.get(scope="account").limit == 1500


def test_open_budgets_keeps_an_account_limit_that_is_needed(
    project: Project, run_id: UUID, reserve: Reserve, settings: Settings, now: datetime
) -> None:
    reserve("3")
    settings.EKLAVYA_ACCOUNT_LIMIT = Decimal(2)
    actions.open_budgets([actions.Opening(project, run_id=run_id, run_limit=Decimal(4))], now=now)

    budget = queries.account_budget()
    assert budget is not None
    assert budget.limit == 1000


def test_reserve_holds_in_each_level(project: Project, run_id: UUID, reserve: Reserve) -> None:
    reserve("1.5")

    assert money(project, run_id) == everywhere("1.5", "0")
    assert lines(run_id) == [("reserve", Decimal("1.5"))]


def test_reserve_to_the_last_cent(project: Project, run_id: UUID, reserve: Reserve) -> None:
    reserve("4")

    assert money(project, run_id) == everywhere("4", "0")


@pytest.mark.parametrize(
    ("limits", "scope"),
    [
        (dict.fromkeys(LEVELS, 1), "account"),
        (dict.fromkeys(LEVELS[1:], 1), "client"),
        (dict.fromkeys(LEVELS[2:], 1), "project"),
        (dict.fromkeys(LEVELS[3:], 1), "agent"),
        (dict.fromkeys(LEVELS[4:], 1), "run"),
    ],
)
def test_reserve_beyond_a_limit_holds_nothing(
    project: Project, run_id: UUID, reserve: Reserve, limits: dict[str, int], scope: str
) -> None:
    for name, limit in limits.items():
        Budget.objects.filter(scope=name).update(limit=limit)

    with pytest.raises(OverBudget) as refused:
        reserve("1.000001")

    assert (refused.value.scope, refused.value.limit, refused.value.spent) == (scope, 1, 0)
    assert refused.value.budget_id == Budget.objects.get(scope=scope).pk
    assert refused.value.is_final
    assert money(project, run_id) == everywhere("0", "0")
    assert lines(run_id) == []
    assert not Reservation.objects.exists()


def test_reserve_that_only_must_wait_is_not_final_and_not_recorded(reserve: Reserve) -> None:
    reserve("3")

    with pytest.raises(OverBudget) as refused:
        reserve("2")

    assert not refused.value.is_final
    assert audited("billing.refused") == []


@pytest.mark.parametrize(("scope", "event"), [*((scope, "budget:exceeded") for scope in LEVELS[:4]), ("run", "")])
def test_reserve_refused_for_good_is_recorded(project: Project, reserve: Reserve, scope: str, event: str) -> None:
    Budget.objects.filter(scope=scope).update(limit=1)

    with pytest.raises(OverBudget):
        reserve("2")

    [row] = audited("billing.refused")
    assert row.project_id == project.pk
    assert row.details["scope"] == scope
    assert row.event_type == event
    if event:
        assert row.event_payload == {"projectId": str(project.pk), "spent": "0.000000", "limit": "1.000000"}


def test_refusal_names_the_limit_that_waiting_does_not_help(reserve: Reserve) -> None:
    """The account's is full for the moment, the agent's for good: only raising the agent's lets the work go on."""
    reserve("3")
    Budget.objects.filter(scope="account").update(limit=4)
    Budget.objects.filter(scope="agent").update(limit=3, reserved=0, settled=3)

    with pytest.raises(OverBudget) as refused:
        reserve("2")

    assert refused.value.is_final
    assert refused.value.scope == "agent"


def test_money_goes_back_where_it_was_held_when_the_project_changed_its_client(
    project: Project, run_id: UUID, reserve: Reserve, now: datetime
) -> None:
    baker = Budget.objects.get(scope="client")
    first = reserve("1")
    Project.objects.update(client_name="The miller")
    actions.open_budgets([actions.Opening(project, run_id=run_id, run_limit=Decimal(4), agent_id=AGENT)], now=now)
    miller = Budget.objects.exclude(pk=baker.pk).get(scope="client")
    second = reserve("0.5")
    actions.settle(first.pk, Usage(output_tokens=10_000), now=now)

    baker.refresh_from_db()
    miller.refresh_from_db()
    assert (baker.reserved, baker.settled) == (0, Decimal("0.15"))
    assert (miller.reserved, miller.settled) == (Decimal("0.5"), 0)
    clients = LedgerEntry.objects.order_by("id").values_list("request_id", "client_id")
    assert set(clients) == {(first.pk, baker.scope_id), (second.pk, miller.scope_id)}


def test_project_without_a_client_spends_from_four_levels(
    project: Project, run_id: UUID, reserve: Reserve, now: datetime
) -> None:
    Project.objects.update(client_name="")
    actions.settle(reserve("1").pk, HUNDRED_THOUSAND_OUT, now=now)

    assert set(money(project, run_id)) == {"account", "project", "agent", "run"}
    assert Budget.objects.get(scope="client").settled == 0


def test_reserve_without_a_budget(reserve: Reserve) -> None:
    with pytest.raises(NoBudget):
        reserve("1", run=new_id())


def test_settle_books_the_real_cost(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> None:
    cost = actions.settle(reserve("3").pk, Usage(10, 100_000, 20, 30, 40), now=now)

    assert cost == Decimal("1.500354")
    assert money(project, run_id) == everywhere("0", "1.500354")
    assert lines(run_id) == [("reserve", Decimal(3)), ("settle", cost)]
    line = LedgerEntry.objects.get(kind="settle")
    assert [getattr(line, name) for name in queries.TOKENS] == [10, 100_000, 20, 40, 30]


def test_settle_twice_is_refused(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> None:
    reservation = reserve("3")
    actions.settle(reservation.pk, HUNDRED_THOUSAND_OUT, now=now)

    with pytest.raises(ReservationClosed):
        actions.settle(reservation.pk, HUNDRED_THOUSAND_OUT, now=now)
    assert money(project, run_id) == everywhere("0", "1.5")


def test_settle_above_the_held_amount(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> None:
    actions.settle(reserve("1").pk, HUNDRED_THOUSAND_OUT, now=now)

    assert money(project, run_id) == everywhere("0", "1.5")
    assert lines(run_id)[1:] == [("settle", Decimal(1)), ("adjust", Decimal("0.5"))]
    [row] = audited("billing.underestimated")
    assert row.details["cost"] == "1.500000"


def test_settle_above_the_limit_stays_within_it(
    project: Project, run_id: UUID, reserve: Reserve, now: datetime
) -> None:
    reserve("3")
    actions.settle(reserve("1").pk, HUNDRED_THOUSAND_OUT, now=now)

    assert money(project, run_id) == everywhere("3", "1.5") | {"run": (Decimal(3), Decimal(1))}
    assert queries.project_cost(project.pk) == Decimal("1.5")


def test_release_gives_back(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> None:
    reservation = reserve("3")
    actions.release(reservation.pk, now=now)

    assert money(project, run_id) == everywhere("0", "0")
    assert lines(run_id) == [("reserve", Decimal(3)), ("release", Decimal(3))]
    assert queries.project_cost(project.pk) == 0
    with pytest.raises(ReservationClosed):
        actions.release(reservation.pk, now=now)


def test_expire_leaves_what_is_not_overdue(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> None:
    lost = reserve("1")
    reserve("2", now=now + timedelta(seconds=1))

    assert actions.expire_reservations(lost.expires_at) == 1

    assert money(project, run_id) == everywhere("2", "1")
    assert actions.expire_reservations(lost.expires_at) == 0


def test_thresholds_are_announced_once_each(project: Project, reserve: Reserve, run_id: UUID, now: datetime) -> None:
    Budget.objects.filter(scope="run").update(limit=10)
    for _ in range(6):
        actions.settle(reserve("1.5").pk, HUNDRED_THOUSAND_OUT, now=now)

    rows = audited("billing.threshold_reached")
    assert [row.event_payload["percent"] for row in rows if row.event_payload] == [50, 80]
    assert {row.event_type for row in rows} == {"budget:warning"}
    assert rows[0].event_payload == {
        "projectId": str(project.pk), "spent": "6.000000", "limit": "10.000000", "percent": 50, "scope": "project",
    }  # fmt: skip


def test_threshold_of_the_account_belongs_to_no_project(run_id: UUID, reserve: Reserve, now: datetime) -> None:
    Budget.objects.filter(scope="account").update(limit=2)
    actions.settle(reserve("1.5").pk, HUNDRED_THOUSAND_OUT, now=now)

    [row] = audited("billing.threshold_reached")
    assert row.project_id is None
    assert row.event_payload is not None
    assert row.event_payload["projectId"] is None


def test_raise_limit_sets_budget_and_project(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> None:
    actions.settle(reserve("1.5").pk, HUNDRED_THOUSAND_OUT, now=now)
    actions.raise_limit(project, Decimal(25), by=ADMIN, now=now)

    project.refresh_from_db()
    assert (project.budget_limit, project.budget_spent) == (25, Decimal("1.5"))
    budget = queries.project_budget(project.pk)
    assert budget is not None
    assert budget.limit == 25
    assert audited("billing.limit_changed")[0].details == {
        "scope": "project", "scope_id": str(project.pk), "from": "10.000000", "to": "25",
    }  # fmt: skip


def test_raise_limit_before_the_first_run(project: Project, now: datetime) -> None:
    actions.raise_limit(project, Decimal(25), by=ADMIN, now=now)
    actions.open_budgets([actions.Opening(project, run_id=new_id(), run_limit=Decimal(1))], now=now)

    assert Budget.objects.get(scope="project").limit == 25


def test_raise_limit_lets_thresholds_be_announced_again(
    project: Project, run_id: UUID, reserve: Reserve, now: datetime
) -> None:
    Budget.objects.filter(scope="project").update(limit=2)
    actions.settle(reserve("1.5").pk, HUNDRED_THOUSAND_OUT, now=now)
    actions.raise_limit(project, Decimal(6), by=ADMIN, now=now)
    actions.settle(reserve("1.5").pk, HUNDRED_THOUSAND_OUT, now=now)

    assert [row.details["percent"] for row in audited("billing.threshold_reached")] == [50, 50]


@pytest.mark.parametrize("limit", ["0", "-1", "NaN", "Infinity", "100000000", "2.9"])
def test_raise_limit_refuses_nonsense(
    project: Project, run_id: UUID, reserve: Reserve, limit: str, now: datetime
) -> None:
    reserve("3")

    with pytest.raises(InvalidLimit):
        actions.raise_limit(project, Decimal(limit), by=ADMIN, now=now)
    assert Budget.objects.get(scope="project").limit == 10


def test_record_spending_repeats_the_budget(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> None:
    actions.settle(reserve("1.5").pk, HUNDRED_THOUSAND_OUT, now=now)
    actions.record_spending(project, now=now)

    project.refresh_from_db()
    assert project.budget_spent == Decimal("1.5")


def test_record_spending_before_the_first_run(project: Project, now: datetime) -> None:
    actions.record_spending(project, now=now)

    project.refresh_from_db()
    assert (project.budget_limit, project.budget_spent) == (10, 0)


def test_rollback_leaves_no_trace(project: Project, run_id: UUID, reserve: Reserve) -> None:
    def and_fail() -> None:
        reserve("1")
        raise RuntimeError

    with pytest.raises(RuntimeError), transaction.atomic():
        and_fail()

    assert money(project, run_id) == everywhere("0", "0")
    assert lines(run_id) == []


def test_database_refuses_overspending(run_id: UUID) -> None:
    with pytest.raises(IntegrityError, match="budget_not_overspent"):
        Budget.objects.filter(scope="run").update(settled=Decimal("4.000001"))


@pytest.mark.parametrize("scope", ["project", "run"])
def test_database_refuses_projects_and_runs_without_a_limit(run_id: UUID, scope: str) -> None:
    with pytest.raises(IntegrityError, match="budget_limit_of_scope"):
        Budget.objects.filter(scope=scope).update(limit=None)


@pytest.mark.parametrize("scope", ["account", "client", "project", "agent"])
def test_set_limit_of_any_level_is_recorded_and_holds(
    run_id: UUID, reserve: Reserve, scope: str, now: datetime
) -> None:
    budget = Budget.objects.get(scope=scope)
    actions.set_limit(budget, Decimal(1), by=ADMIN, now=now)

    with pytest.raises(OverBudget) as refused:
        reserve("1.01")
    assert refused.value.scope == scope
    [row] = audited("billing.limit_changed")
    assert (row.details["scope"], row.details["to"], row.object_id) == (scope, "1", str(budget.pk))
    assert row.project_id == budget.project_id


@pytest.mark.parametrize(("scope", "possible"), [("client", True), ("agent", True), ("account", False)])
def test_limit_is_taken_away_where_none_is_needed(run_id: UUID, scope: str, possible: bool, now: datetime) -> None:
    budget = Budget.objects.get(scope=scope)
    Budget.objects.filter(pk=budget.pk).update(limit=5)
    if possible:
        actions.set_limit(budget, None, by=ADMIN, now=now)
    else:
        with pytest.raises(InvalidLimit, match="always has a limit"):
            actions.set_limit(budget, None, by=ADMIN, now=now)

    assert (Budget.objects.get(pk=budget.pk).limit is None) is possible
