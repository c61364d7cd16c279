"""A request's money: held before it is sent, settled or given back after, and expired when its gateway vanished."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

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
EXPIRED_AT_ONCE = 500
_LATE = "settled late: instead of the full amount"
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
    room for. Where the reservation expired meanwhile, what it was settled at is corrected. Raises ReservationClosed
    when it was settled or released before.
    """
    with audit.journal(by=CASHIER, now=now) as journal:
        reservation = _locked(reservation_id)
        real = cost(reservation.price, usage)
        if reservation.status == Reservation.Status.EXPIRED:
            _correct(reservation, Reservation.Status.SETTLED, real, usage=usage, journal=journal)
        else:
            _close(reservation, Reservation.Status.SETTLED, spent=real, journal=journal)
            _book(line_of(reservation, LedgerEntry.Kind.SETTLE, min(real, reservation.amount), usage=usage, now=now))
            if real > reservation.amount:
                excess = real - reservation.amount
                note = "cost more than was held"
                _book(line_of(reservation, LedgerEntry.Kind.ADJUST, excess, note=note, now=now))
        if real > reservation.amount:
            journal.add(
                "billing.underestimated",
                project_id=reservation.project_id,
                agent_id=reservation.agent_id,
                obj=reservation,
                details={"held": reservation.amount, "cost": real, "model": reservation.model},
            )
    return real


def release(reservation_id: UUID, *, now: datetime) -> None:
    """Give back what was held for a request that cost nothing, also when it expired. Raises as `settle`."""
    with audit.journal(by=CASHIER, now=now) as journal:
        reservation = _locked(reservation_id)
        if reservation.status == Reservation.Status.EXPIRED:
            _correct(reservation, Reservation.Status.RELEASED, Decimal(0), usage=Usage(), journal=journal)
        else:
            _close(reservation, Reservation.Status.RELEASED, spent=Decimal(0), journal=journal)
            _book(line_of(reservation, LedgerEntry.Kind.RELEASE, reservation.amount, now=now))


def _correct(
    reservation: Reservation, status: Reservation.Status, real: Decimal, *, usage: Usage, journal: audit.Journal
) -> None:
    difference = real - reservation.amount
    _close(reservation, status, held=Decimal(0), spent=difference, journal=journal)
    _book(line_of(reservation, LedgerEntry.Kind.ADJUST, difference, usage=usage, note=_LATE, now=journal.now))
    journal.add(
        "billing.expiry_corrected",
        project_id=reservation.project_id,
        agent_id=reservation.agent_id,
        obj=reservation,
        details={"settled_at": reservation.amount, "cost": real, "run": reservation.run_id},
    )


def expire_reservations(now: datetime) -> int:
    """Settle at their full amount the reservations whose gateway vanished, and return how many.

    What such a request cost is unknown; its worst case can only be too much. Any number of sweepers may do it at once.
    """
    expired, batch = 0, _expire_batch(now, most=EXPIRED_AT_ONCE)
    while batch:
        expired += batch
        batch = _expire_batch(now, most=EXPIRED_AT_ONCE)
    return expired


def _expire_batch(now: datetime, *, most: int) -> int:
    try:
        with audit.journal(by=CASHIER, now=now) as journal:
            return _expire(_due(now)[:most], journal)
    except IntegrityError:
        logger.exception("a batch of reservations could not be expired, taking them one by one")
    return sum(_expire_alone(reservation_id, now) for reservation_id in _due(now).values_list("pk", flat=True)[:most])


def _expire_alone(reservation_id: UUID, now: datetime) -> int:
    try:
        with audit.journal(by=CASHIER, now=now) as journal:
            return _expire(_due(now).filter(pk=reservation_id), journal)
    except IntegrityError:  # one broken row must not keep the others' money held
        logger.exception("reservation could not be expired", extra={"reservation": str(reservation_id)})
        return 0


def _due(now: datetime) -> QuerySet[Reservation]:
    # One that ends later than any can was made while a clock was ahead: nobody would live to see it expire.
    ended = Q(expires_at__lte=now) | Q(expires_at__gt=now + 2 * RESERVATION_LIFETIME)
    return Reservation.objects.filter(ended, status=Reservation.Status.OPEN).order_by("expires_at")


def _expire(due: QuerySet[Reservation], journal: audit.Journal) -> int:
    """Expire those of `due` that nobody else is just closing."""
    reservations = list(due.select_for_update(skip_locked=True, no_key=True))
    if not reservations:
        return 0
    spent: dict[UUID, Decimal] = defaultdict(Decimal)
    for reservation in reservations:
        for budget_id in reservation.budget_ids:
            spent[budget_id] += reservation.amount
    budgets = statements.lock(list(spent))
    statements.expire(
        [reservation.pk for reservation in reservations], line_ids=[new_id() for _ in reservations], now=journal.now
    )
    for budget in budgets:
        warn(journal, budget, budget.settled + spent[budget.id])
    for reservation in reservations:
        journal.add(
            "billing.reservation_expired",
            project_id=reservation.project_id,
            agent_id=reservation.agent_id,
            obj=reservation,
            details={"amount": reservation.amount, "run": reservation.run_id},
        )
    return len(reservations)


def _locked(reservation_id: UUID) -> Reservation:
    """Return a reservation that can still be closed, or corrected, locked. Raises ReservationClosed."""
    status = (Reservation.Status.OPEN, Reservation.Status.EXPIRED)
    found = Reservation.objects.filter(pk=reservation_id, status__in=status)
    reservation = found.select_related("price").select_for_update(of=("self",)).first()
    if reservation is None:
        raise ReservationClosed
    return reservation


def _close(
    reservation: Reservation,
    status: Reservation.Status,
    *,
    held: Decimal | None = None,
    spent: Decimal,
    journal: audit.Journal,
) -> None:
    budgets = statements.lock(reservation.budget_ids)
    statements.close(
        {
            "id": reservation.pk,
            "budget_ids": reservation.budget_ids,
            "amount": reservation.amount if held is None else held,
            "cost": spent,
            "status": status.value,
        }
    )
    for budget in budgets:
        warn(journal, budget, budget.settled + spent)


def _book(line: LedgerEntry) -> None:
    line.save(force_insert=True)


def line_of(
    reservation: Reservation,
    kind: LedgerEntry.Kind,
    amount: Decimal,
    *,
    usage: Usage | None = None,
    note: str = "",
    now: datetime,
) -> LedgerEntry:
    """Return a reservation's line of the ledger. It is not written yet."""
    usage = usage or Usage()
    return LedgerEntry(
        id=new_id(),
        kind=kind.value,
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
