"""Reservations whose gateway vanished, those it only seemed so of, and clocks that jump."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, InternalError, ProgrammingError, connection
from django.db.models import Sum

from billing import actions, queries
from billing.actions import RESERVATION_LIFETIME, reservations
from billing.errors import ReservationClosed
from billing.models import Budget, LedgerEntry, Reservation
from billing.prices import Usage
from projects.models import AuditLog, Project

pytestmark = pytest.mark.django_db

Reserve = Callable[..., Reservation]
COSTS_1_5 = Usage(input_tokens=0, output_tokens=100_000)
LEVELS = 5


def lines(reservation: Reservation) -> list[tuple[str, Decimal]]:
    return list(LedgerEntry.objects.filter(request_id=reservation.pk).order_by("id").values_list("kind", "amount"))


def sums() -> set[tuple[Decimal, Decimal]]:
    """What the budgets say; the same in each of them."""
    assert Budget.objects.count() == LEVELS
    return set(Budget.objects.values_list("reserved", "settled"))


def audited(action: str) -> int:
    return AuditLog.objects.filter(action=action).count()


@pytest.fixture
def lost(reserve: Reserve) -> Reservation:
    """A reservation of 2 that expired."""
    reservation = reserve("2")
    assert actions.expire_reservations(reservation.expires_at) == 1
    return reservation


def test_expired_is_settled_in_full_and_flagged(project: Project, lost: Reservation) -> None:
    lost.refresh_from_db()
    assert lost.status == "expired"
    assert lines(lost) == [("reserve", 2), ("settle", 2)]
    line = LedgerEntry.objects.get(kind="settle")
    assert line.note == "expired: real cost unknown"
    assert (line.currency, line.model, line.price_id) == ("USD", lost.model, lost.price_id)
    assert (line.agent_id, line.client_id) == (lost.agent_id, project.client_id or lost.client_id)
    assert sums() == {(0, 2)}
    assert audited("billing.reservation_expired") == 1


@pytest.mark.parametrize(("usage", "cost"), [(COSTS_1_5, "1.5"), (Usage(), "0"), (Usage(output_tokens=200_000), "3")])
def test_late_settlement_corrects_the_full_amount(
    project: Project, lost: Reservation, usage: Usage, cost: str, now: datetime
) -> None:
    assert actions.settle(lost.pk, usage, now=now) == Decimal(cost)

    assert lines(lost)[2:] == [("adjust", Decimal(cost) - 2)]
    assert LedgerEntry.objects.get(kind="adjust").output_tokens == usage.output_tokens
    assert queries.project_cost(project.pk) == Decimal(cost)
    assert sums() == {(0, Decimal(cost))}
    assert audited("billing.expiry_corrected") == 1
    assert audited("billing.underestimated") == (cost == "3")
    with pytest.raises(ReservationClosed):
        actions.settle(lost.pk, usage, now=now)
    with pytest.raises(ReservationClosed):
        actions.release(lost.pk, now=now)


def test_late_release_gives_everything_back(project: Project, lost: Reservation, now: datetime) -> None:
    actions.release(lost.pk, now=now)

    lost.refresh_from_db()
    assert lost.status == "released"
    assert queries.project_cost(project.pk) == 0
    assert sums() == {(0, 0)}


def test_late_settlement_above_a_limit_stays_within_it(project: Project, lost: Reservation, now: datetime) -> None:
    actions.settle(lost.pk, Usage(output_tokens=400_000), now=now)

    assert Budget.objects.get(scope="run").settled == 4  # its limit
    assert queries.project_cost(project.pk) == 6


def test_sweep_takes_all_batches(reserve: Reserve, monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    monkeypatch.setattr(reservations, "EXPIRED_AT_ONCE", 2)
    for _ in range(5):
        reserve("0.1")

    assert actions.expire_reservations(now + RESERVATION_LIFETIME) == 5
    assert sums() == {(0, Decimal("0.5"))}


def test_one_batch_costs_the_same_however_many(
    reserve: Reserve, now: datetime, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        reserve("0.1")

    with django_assert_max_num_queries(16):
        assert actions.expire_reservations(now + RESERVATION_LIFETIME) == 30


def test_broken_row_keeps_nobody_elses_money(reserve: Reserve, now: datetime, caplog: Any) -> None:
    broken = reserve("1")
    reserve("0.5")
    reserve("0.5")
    Budget.objects.update(reserved=1)  # as if somebody had given the first one's money back
    Reservation.objects.filter(pk=broken.pk).update(amount=3)

    assert actions.expire_reservations(now + RESERVATION_LIFETIME) == 2

    assert {one.status for one in Reservation.objects.exclude(pk=broken.pk)} == {"expired"}
    assert [one.pk for one in Reservation.objects.filter(status="open")] == [broken.pk]
    assert sums() == {(0, 1)}
    assert "could not be expired" in caplog.text


# -- clocks


def test_clock_that_jumped_ahead_and_back_costs_nothing_in_the_end(
    project: Project, reserve: Reserve, now: datetime
) -> None:
    alive = reserve("2")
    assert actions.expire_reservations(now + timedelta(days=400)) == 1
    assert actions.expire_reservations(now) == 0

    actions.settle(alive.pk, COSTS_1_5, now=now)

    assert queries.project_cost(project.pk) == Decimal("1.5")
    assert sums() == {(0, Decimal("1.5"))}


def test_what_was_held_while_the_clock_was_ahead_is_not_held_for_ever(reserve: Reserve, now: datetime) -> None:
    ahead = reserve("2", now=now + timedelta(days=4000))

    assert actions.expire_reservations(now) == 1

    ahead.refresh_from_db()
    assert ahead.status == "expired"


def test_clock_that_is_a_little_ahead_expires_nothing(reserve: Reserve, now: datetime) -> None:
    reserve("2", now=now + timedelta(minutes=1))
    assert actions.expire_reservations(now) == 0


def test_clock_that_jumped_back_expires_when_it_is_right_again(reserve: Reserve, now: datetime) -> None:
    reserve("2", now=now - timedelta(days=400))
    assert actions.expire_reservations(now) == 1


# -- what the database holds


@pytest.mark.parametrize("status", ["open", "expired"])
def test_closed_reservation_is_not_opened_again(reserve: Reserve, status: str, now: datetime) -> None:
    reservation = reserve("2")
    actions.settle(reservation.pk, COSTS_1_5, now=now)
    with pytest.raises((InternalError, ProgrammingError), match="Invalid transition"):
        Reservation.objects.filter(pk=reservation.pk).update(status=status)


def test_reservation_that_ends_before_it_begins_is_refused(reserve: Reserve, now: datetime) -> None:
    reservation = reserve("2")
    with pytest.raises(IntegrityError, match="reservation_expires_later"):
        Reservation.objects.filter(pk=reservation.pk).update(expires_at=now)


# -- at the same time


@pytest.mark.django_db(transaction=True)
def test_sweepers_and_gateways_at_the_same_time_count_each_request_once(
    project: Project, run_id: UUID, reserve: Reserve, now: datetime
) -> None:
    Budget.objects.filter(scope="run").update(limit=10)
    held = [reserve("0.2").pk for _ in range(40)]
    later, start = now + RESERVATION_LIFETIME, threading.Barrier(6)

    def sweep() -> int:
        return actions.expire_reservations(later)

    def settle(mine: list[UUID]) -> int:
        for key in mine:
            actions.settle(key, Usage(output_tokens=10_000), now=later)  # 0.15
        return 0

    def one(work: Callable[[], int]) -> int:
        start.wait(timeout=30)
        try:
            return work()
        finally:
            connection.close()

    works = [sweep, sweep, sweep, *(lambda n=n: settle(held[n:30:3]) for n in range(3))]
    with ThreadPoolExecutor(6) as pool:
        swept = sum(result.result(timeout=120) for result in [pool.submit(one, work) for work in works])

    # Whoever came first: 30 cost what they cost, and 10 of which nobody heard their full amount.
    assert sums() == {(0, Decimal("6.5"))}
    assert queries.project_cost(project.pk) == Decimal("6.5")
    by_kind = dict(LedgerEntry.objects.values_list("kind").annotate(Sum("amount")).order_by())
    assert by_kind["reserve"] == 8
    assert 10 <= swept == LedgerEntry.objects.filter(note__startswith="expired").count() <= 40
