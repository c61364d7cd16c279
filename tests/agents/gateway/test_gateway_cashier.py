"""The till: many requests in one transaction, and what is left to the longer way."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.utils import timezone

from agents.gateway.callers import Caller
from agents.gateway.cashier import Cashier, RunOver, RunStopping, TurnsUsed, Unusual
from agents.models import Run
from billing import actions as billing
from billing.errors import NoBudget, OverBudget
from billing.models import Budget, LedgerEntry, Price, Reservation
from billing.prices import Usage
from billing.queries import price_for
from projects.models import SquadMember
from tests.agents.gateway.harness import start_run

pytestmark = pytest.mark.django_db(transaction=True)
USED = Usage(1_000, 200)
COST = Decimal("0.006")


def caller_of(run: Run) -> Caller:
    return Caller(run.pk, run.agent_id, run.project_id, run.model)


def at_the_till(work: Callable[[Cashier, Callable[..., Awaitable[Reservation]]], Awaitable[Any]]) -> Any:
    """Run `work` with a till and a way to hold an amount for a run."""
    price: Price = price_for("claude-sonnet-4-5", timezone.now().date())

    async def main() -> Any:
        cashier = Cashier()

        async def hold(run: Run, amount: str = "1", in_flight: int = 1) -> Reservation:
            return await cashier.hold(
                caller_of(run),
                model="claude-sonnet-4-5",
                amount=Decimal(amount),
                price=price,
                in_flight=in_flight,
                now=timezone.now(),
            )

        try:
            return await work(cashier, hold)
        finally:
            await cashier.stop()

    return asyncio.run(main())


def test_crowd_holds_what_fits_in_few_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = start_run(limit="20")
    Budget.objects.filter(scope="project").update(limit=7)
    batches = []
    original = Cashier._transact

    async def transact(self: Cashier, items: Any) -> Any:
        batches.append(len(items))
        return await original(self, items)

    monkeypatch.setattr(Cashier, "_transact", transact)

    async def work(cashier: Cashier, hold: Callable[..., Awaitable[Reservation]]) -> list[Any]:
        return await asyncio.gather(*(hold(run) for _ in range(20)), return_exceptions=True)

    found = at_the_till(work)

    assert sum(isinstance(one, Reservation) for one in found) == 7
    assert sum(isinstance(one, OverBudget) for one in found) == 13
    assert Budget.objects.get(scope="project").reserved == 7
    assert (Reservation.objects.count(), LedgerEntry.objects.filter(kind="reserve").count()) == (7, 7)
    assert len(batches) == 1


def test_same_books_as_the_longer_way() -> None:
    ours, _ = start_run()
    theirs, _ = start_run()
    billing.open_budgets(
        [billing.Opening(ours.project, run_id=ours.pk, agent_id=ours.agent_id, run_limit=Decimal(5))],
        now=timezone.now(),
    )
    billing.open_budgets(
        [billing.Opening(theirs.project, run_id=theirs.pk, agent_id=theirs.agent_id, run_limit=Decimal(5))],
        now=timezone.now(),
    )

    async def work(cashier: Cashier, hold: Callable[..., Awaitable[Reservation]]) -> None:
        first, second = await asyncio.gather(hold(ours), hold(ours))
        await cashier.close(caller_of(ours), first, USED, now=timezone.now())
        await cashier.close(caller_of(ours), second, None, now=timezone.now())

    at_the_till(work)
    price = price_for("claude-sonnet-4-5", timezone.now().date())
    for usage in (USED, None):
        held = billing.reserve(
            run_id=theirs.pk,
            agent_id=theirs.agent_id,
            project_id=theirs.project_id,
            model="claude-sonnet-4-5",
            amount=Decimal(1),
            price=price,
            now=timezone.now(),
        )
        _ = (
            billing.settle(held.pk, usage, now=timezone.now())
            if usage
            else billing.release(held.pk, now=timezone.now())
        )

    def lines(run: Run) -> set[tuple[Any, ...]]:
        rows = LedgerEntry.objects.filter(run_id=run.pk)
        return set(rows.values_list("kind", "amount", "currency", "model", "price", "input_tokens", "output_tokens"))

    def budgets(run: Run) -> set[tuple[Any, ...]]:
        rows = Budget.objects.filter(scope_id__in=[run.pk, run.project_id, run.agent_id])
        return set(rows.values_list("scope", "reserved", "settled", "limit", "warned_percent"))

    def reservations(run: Run) -> list[tuple[Any, ...]]:
        rows = Reservation.objects.filter(run_id=run.pk)
        return sorted((one.status, one.amount, len(one.budget_ids), one.client_id is None) for one in rows)

    assert lines(ours) == lines(theirs)
    assert budgets(ours) == budgets(theirs)
    assert reservations(ours) == reservations(theirs)
    ours.refresh_from_db()
    assert (ours.turns, ours.cost, ours.tokens_used) == (1, COST, 1_200)


def test_what_a_run_may_not_do() -> None:
    ended, _ = start_run(status="evaluating")
    stopping, _ = start_run(stop_requested="paused")
    used_up, _ = start_run(turns=3)
    SquadMember.objects.filter(pk=used_up.agent.member_id).update(max_turns=3)
    poor, _ = start_run()
    Budget.objects.filter(scope_id=poor.pk).delete()

    async def work(cashier: Cashier, hold: Callable[..., Awaitable[Reservation]]) -> list[Any]:
        return await asyncio.gather(*(hold(run) for run in (ended, stopping, used_up, poor)), return_exceptions=True)

    found = at_the_till(work)

    assert [type(one) for one in found] == [RunOver, RunStopping, TurnsUsed, NoBudget]
    assert not Reservation.objects.exists()


def test_what_people_must_be_told_of_is_left_to_the_longer_way() -> None:
    run, _ = start_run()
    Budget.objects.filter(scope="project").update(limit=Decimal("1.005"))

    async def work(cashier: Cashier, hold: Callable[..., Awaitable[Reservation]]) -> None:
        held = await hold(run)
        with pytest.raises(Unusual):
            await cashier.close(caller_of(run), held, Usage(100_000, 20_000), now=timezone.now())

    at_the_till(work)

    assert Reservation.objects.get().status == "open"
    assert Budget.objects.get(scope="project").reserved == 1


def test_money_that_waits_to_be_brought_back_is_used_when_there_is_no_other() -> None:
    run, _ = start_run(limit="1.5")

    async def work(cashier: Cashier, hold: Callable[..., Awaitable[Reservation]]) -> Reservation:
        first = await hold(run)
        closing = asyncio.create_task(cashier.close(caller_of(run), first, None, now=timezone.now()))
        await asyncio.sleep(0)
        second = await hold(run)
        await closing
        return second

    assert at_the_till(work).amount == 1


def test_broken_one_does_not_take_the_others_along() -> None:
    run, _ = start_run()

    async def work(cashier: Cashier, hold: Callable[..., Awaitable[Reservation]]) -> list[Any]:
        return await asyncio.gather(hold(run), hold(run, "-1"), hold(run), return_exceptions=True)

    found = at_the_till(work)

    assert isinstance(found[1], psycopg.IntegrityError)
    assert Reservation.objects.count() == 2
    assert Budget.objects.get(scope="run").reserved == 2
