from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from billing import actions, queries
from billing.errors import UnknownPrice
from billing.models import LedgerEntry, Price, Reservation
from billing.prices import Usage
from billing.queries import Share
from projects.ids import new_id
from projects.models import Project

pytestmark = pytest.mark.django_db

Reserve = Callable[..., Reservation]
AGENT = UUID(int=7)
RATES = ("output_per_mtok", "cache_write_per_mtok", "long_cache_write_per_mtok", "cache_read_per_mtok")


def test_price_for_a_dated_id(price: Price) -> None:
    assert queries.price_for("claude-sonnet-4-5-20250929", date(2026, 1, 1)) == price


def test_price_for_takes_the_newest_that_is_valid(price: Price) -> None:
    facts = {name: getattr(price, name) for name in RATES}
    newer = Price.objects.create(model=price.model, valid_from=date(2026, 6, 1), input_per_mtok=2, **facts)

    assert queries.price_for(price.model, date(2026, 5, 31)) == price
    assert queries.price_for(price.model, date(2026, 6, 1)) == newer


@pytest.mark.parametrize(("model", "on"), [("gpt-9", date(2026, 1, 1)), ("claude-sonnet-4-5", date(2020, 1, 1))])
def test_price_for_the_unknown(price: Price, model: str, on: date) -> None:
    with pytest.raises(UnknownPrice):
        queries.price_for(model, on)


@pytest.fixture
def spent(project: Project, run_id: UUID, reserve: Reserve, now: datetime) -> UUID:
    """Two requests of one run, one of them dearer than foreseen, and one of a second run, whose id is returned."""
    other = new_id()
    actions.open_budgets([actions.Opening(project, run_id=other, run_limit=Decimal(4))], now=now)
    actions.settle(reserve("3").pk, Usage(output_tokens=100_000), now=now)
    actions.settle(reserve("0.1").pk, Usage(output_tokens=10_000), now=now)
    actions.settle(reserve("1", run=other).pk, Usage(input_tokens=100_000), now=now)
    actions.release(reserve("1").pk, now=now)
    return other


def test_project_cost_is_what_was_spent(project: Project, spent: UUID) -> None:
    assert queries.project_cost(project.pk) == Decimal("1.95")
    assert queries.project_cost(new_id()) == 0


def test_breakdown_by_run_model_and_agent(project: Project, run_id: UUID, spent: UUID) -> None:
    assert queries.breakdown(project.pk, "run_id") == [
        Share(run_id, Decimal("1.65"), 110_000, 2),
        Share(spent, Decimal("0.3"), 100_000, 1),
    ]
    whole = [Decimal("1.95"), 210_000, 3]
    assert queries.breakdown(project.pk, "model") == [Share("claude-sonnet-4-5", *whole)]
    assert queries.breakdown(project.pk, "agent_id") == [Share(AGENT, *whole)]


def test_breakdown_by_task(project: Project, run_id: UUID, spent: UUID) -> None:
    task = new_id()

    assert queries.breakdown_by_task(project.pk, {run_id: task, spent: task}) == [
        Share(task, Decimal("1.95"), 210_000, 3)
    ]
    assert [share.key for share in queries.breakdown_by_task(project.pk, {run_id: task})] == [task, None]


def test_ledger_pages_hold_still_while_lines_are_added(
    project: Project, reserve: Reserve, run_id: UUID, now: datetime
) -> None:
    for second in (0, 0, 1, 2):
        reserve("0.1", now=now + timedelta(seconds=second))
    expected = [entry.pk for entry in LedgerEntry.objects.order_by("-created_at", "-id")]

    first = queries.ledger_page(project.pk, size=3)
    reserve("0.1", now=now + timedelta(seconds=3))
    second_page = queries.ledger_page(project.pk, before=first.next_before, size=3)

    assert [entry.pk for entry in [*first.entries, *second_page.entries]] == expected
    assert second_page.next_before is None


def test_ledger_page_of_another_project_is_empty(spent: UUID) -> None:
    assert queries.ledger_page(new_id()).entries == []
    assert len(queries.ledger_page(None).entries) == 9
