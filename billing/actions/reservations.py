"""A request's money: held before it is sent, settled or given back after, and expired when its gateway vanished."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import transaction

from billing import statements
from billing.actions.warnings import CASHIER, warn
from billing.errors import NoBudget, OverBudget, ReservationClosed
from billing.models import Budget, LedgerEntry, Price, Reservation
from billing.prices import Usage, cost
from billing.statements import LockedBudget
from projects import audit
from projects.events import BUDGET_EXCEEDED, Event
from projects.ids import new_id

logger = logging.getLogger(__name__)

# Longer than the gateway lets any request take: what is still open then lost its gateway.
RESERVATION_LIFETIME = timedelta(minutes=45)
_EXPIRED_AT_ONCE = 500
# The others may be missing: a project has no client, an agent is new.
_NEEDED = {Budget.Scope.ACCOUNT, Budget.Scope.PROJECT, Budget.Scope.RUN}
_WIDEST_FIRST = {scope: number for number, scope in enumerate(Budget.Scope)}


def reserve(
    *, run_id: UUID, agent_id: UUID, project_id: UUID, model: str, amount: Decimal, price: Price, now: datetime
) -> Reservation:
    """Hold `amount`, the most that a request can cost, in the run's budgets of all levels.

    Raises OverBudget with nothing held when it does not fit one of them, NoBudget when the run has none. A refusal
    that no request under way can lift is recorded, so call it outside of any transaction.
    """
    try:
        with transaction.atomic():
            budgets = statements.lock_of_run(project_id, agent_id, run_id)
            check_fits(budgets, amount)
            reservation = Reservation(
                id=new_id(),
                project_id=project_id,
                client_id=next((b.scope_id for b in budgets if b.scope == Budget.Scope.CLIENT), None),
                run_id=run_id,
                agent_id=agent_id,
                budget_ids=[budget.id for budget in budgets],
                model=model,
                price=price,
                amount=amount,
                created_at=now,
                expires_at=now + RESERVATION_LIFETIME,
            )
            _hold(reservation)
    except OverBudget as refusal:
        if refusal.is_final:
            record_refusal(refusal, project_id=project_id, run_id=run_id, agent_id=agent_id, now=now)
        raise
    return reservation


def check_fits(budgets: Sequence[LockedBudget], amount: Decimal) -> None:
    """Raise OverBudget when an amount does not fit one of a run's budgets, NoBudget when it has none."""
    if not {budget.scope for budget in budgets} >= _NEEDED:
        raise NoBudget
    full = [budget for budget in budgets if not budget.fits(amount)]
    if full:
        # The one that waiting does not help, and of these the widest: raising a narrower one would not be enough.
        refusals = [_refusal(budget, amount) for budget in full]
        raise min(refusals, key=lambda one: (not one.is_final, _WIDEST_FIRST[Budget.Scope(one.scope)]))


def _refusal(budget: LockedBudget, amount: Decimal) -> OverBudget:
    assert budget.limit is not None
    return OverBudget(
        budget.scope, budget.limit, budget.settled, held=budget.reserved, amount=amount, budget_id=budget.id
    )


def _hold(reservation: Reservation) -> None:
    statements.hold(
        {
            "id": reservation.pk,
            "line_id": new_id(),
            "project_id": reservation.project_id,
            "client_id": reservation.client_id,
            "run_id": reservation.run_id,
            "agent_id": reservation.agent_id,
            "budget_ids": reservation.budget_ids,
            "model": reservation.model,
            "price_id": reservation.price_id,
            "currency": reservation.price.currency,
            "amount": reservation.amount,
            "now": reservation.created_at,
            "expires_at": reservation.expires_at,
        }
    )


def record_refusal(refusal: OverBudget, *, project_id: UUID, run_id: UUID, agent_id: UUID, now: datetime) -> None:
    """Record, and tell people of, a refusal that no request under way can lift."""
    facts = {"spent": refusal.spent, "limit": refusal.limit}
    # A run's own limit is the platform's business; the project's and the account's are people's.
    event = Event(BUDGET_EXCEEDED, {"projectId": project_id} | facts) if refusal.scope != Budget.Scope.RUN else None
    with audit.journal(by=CASHIER, now=now) as journal:
        journal.add(
            "billing.refused",
            project_id=project_id,
            agent_id=agent_id,
            details={"run": run_id, "scope": refusal.scope, "held": refusal.held, "amount": refusal.amount} | facts,
            event=event,
        )


def settle(reservation_id: UUID, usage: Usage, *, now: datetime) -> Decimal:
    """Replace what was held by what the request really cost, and return that.

    A cost above what was held is booked too, as a separate line, and recorded; the budgets take of it what they have
    room for. Raises ReservationClosed when it was settled or released before.
    """
    with audit.journal(by=CASHIER, now=now) as journal:
        reservation = _locked(reservation_id)
        real = cost(reservation.price, usage)
        _close(reservation, Reservation.Status.SETTLED, spent=real, journal=journal)
        _book(reservation, LedgerEntry.Kind.SETTLE, min(real, reservation.amount), usage=usage, now=now)
        if real > reservation.amount:
            excess = real - reservation.amount
            _book(reservation, LedgerEntry.Kind.ADJUST, excess, note="cost more than was held", now=now)
            journal.add(
                "billing.underestimated",
                project_id=reservation.project_id,
                agent_id=reservation.agent_id,
                obj=reservation,
                details={"held": reservation.amount, "cost": real, "model": reservation.model},
            )
    return real


def release(reservation_id: UUID, *, now: datetime) -> None:
    """Give back what was held for a request that cost nothing. Raises ReservationClosed as `settle`."""
    with audit.journal(by=CASHIER, now=now) as journal:
        reservation = _locked(reservation_id)
        _close(reservation, Reservation.Status.RELEASED, spent=Decimal(0), journal=journal)
        _book(reservation, LedgerEntry.Kind.RELEASE, reservation.amount, now=now)


def expire_reservations(now: datetime) -> int:
    """Settle at their full amount the reservations whose gateway vanished, and return how many.

    What such a request cost is unknown; its worst case can only be too much.
    """
    due = Reservation.objects.filter(status=Reservation.Status.OPEN, expires_at__lte=now).order_by("expires_at")
    expired = 0
    for reservation_id in list(due.values_list("pk", flat=True)[:_EXPIRED_AT_ONCE]):
        try:
            _expire(reservation_id, now=now)
            expired += 1
        except ReservationClosed:
            continue  # its gateway was only slow, and came first
        except Exception:  # one broken row must not keep the others' money held
            logger.exception("reservation could not be expired", extra={"reservation": str(reservation_id)})
    return expired


def _expire(reservation_id: UUID, *, now: datetime) -> None:
    with audit.journal(by=CASHIER, now=now) as journal:
        reservation = _locked(reservation_id)
        _close(reservation, Reservation.Status.SETTLED, spent=reservation.amount, journal=journal)
        _book(reservation, LedgerEntry.Kind.SETTLE, reservation.amount, note="expired: real cost unknown", now=now)
        journal.add(
            "billing.reservation_expired",
            project_id=reservation.project_id,
            agent_id=reservation.agent_id,
            obj=reservation,
            details={"amount": reservation.amount, "run": reservation.run_id},
        )


def _locked(reservation_id: UUID) -> Reservation:
    is_open = Reservation.objects.filter(pk=reservation_id, status=Reservation.Status.OPEN)
    reservation = is_open.select_related("price").select_for_update(of=("self",)).first()
    if reservation is None:
        raise ReservationClosed
    return reservation


def _close(reservation: Reservation, status: Reservation.Status, *, spent: Decimal, journal: audit.Journal) -> None:
    budgets = statements.lock(reservation.budget_ids)
    statements.close(
        {
            "id": reservation.pk,
            "budget_ids": reservation.budget_ids,
            "amount": reservation.amount,
            "cost": spent,
            "status": status.value,
        }
    )
    for budget in budgets:
        warn(journal, budget, budget.settled + spent)


def _book(
    reservation: Reservation,
    kind: LedgerEntry.Kind,
    amount: Decimal,
    *,
    usage: Usage | None = None,
    note: str = "",
    now: datetime,
) -> None:
    usage = usage or Usage()
    LedgerEntry.objects.create(
        id=new_id(),
        kind=kind,
        project_id=reservation.project_id,
        client_id=reservation.client_id,
        run_id=reservation.run_id,
        agent_id=reservation.agent_id,
        request_id=reservation.pk,
        amount=amount,
        currency=reservation.price.currency,
        model=reservation.model,
        price=reservation.price,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        long_cache_write_tokens=usage.long_cache_write_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        note=note,
        created_at=now,
    )
