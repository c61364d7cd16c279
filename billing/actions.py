"""Every write to billing, as verbs: limits, reservations and their settlement.

Each model request holds its worst-case cost in three budgets (account, project, run) before it is sent, and leaves
its real cost there afterwards (`statements`). The three rows are always locked in that order, after the reservation's
own row, so that no two of these transactions wait for each other. The ledger is the record of requests; the audit log
gets what concerns people: limits, warnings, refusals and costs that could not be foreseen.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from billing import statements
from billing.errors import InvalidLimit, NoBudget, OverBudget, ReservationClosed
from billing.models import Budget, LedgerEntry, Price, Reservation
from billing.prices import Usage, cost
from billing.statements import ACCOUNT_ID, LockedBudget
from projects import audit
from projects.actions import approvals, projects
from projects.actions.approvals import Decision
from projects.actors import Actor
from projects.errors import InvalidDecision
from projects.events import BUDGET_EXCEEDED, BUDGET_WARNING, Event
from projects.ids import new_id
from projects.models import Approval, Project
from projects.states import ApprovalKind, ProjectStatus

logger = logging.getLogger(__name__)

CASHIER = Actor.system("billing")
THRESHOLDS = (50, 80, 95)  # percent of a limit, at which people are told once
# Longer than the gateway lets any request take: what is still open then lost its gateway.
RESERVATION_LIFETIME = timedelta(minutes=45)
_EXPIRED_AT_ONCE = 500
_MAX_LIMIT = Decimal(10) ** 8  # what the column holds, exclusive


def open_budgets(project: Project, *, run_id: UUID, run_limit: Decimal, now: datetime) -> None:
    """Make sure that the account, the project and the run have a budget each. Doing it again changes nothing.

    The account's limit follows the settings, unless more than that is spent or held already.
    """
    with audit.journal(by=CASHIER, now=now) as journal:
        _open(Budget.Scope.ACCOUNT, ACCOUNT_ID, settings.EKLAVYA_ACCOUNT_LIMIT, project=None, now=now)
        _open(Budget.Scope.PROJECT, project.pk, project.budget_limit, project=project, now=now)
        _open(Budget.Scope.RUN, run_id, run_limit, project=project, now=now)
        account = Budget.objects.exclude(limit=settings.EKLAVYA_ACCOUNT_LIMIT).filter(
            scope=Budget.Scope.ACCOUNT,
            scope_id=ACCOUNT_ID,
            settled__lte=settings.EKLAVYA_ACCOUNT_LIMIT - F("reserved"),
        )
        if account.update(limit=settings.EKLAVYA_ACCOUNT_LIMIT):
            journal.add("billing.account_limit_changed", details={"limit": settings.EKLAVYA_ACCOUNT_LIMIT})


def _open(scope: Budget.Scope, scope_id: UUID, limit: Decimal, *, project: Project | None, now: datetime) -> None:
    Budget.objects.get_or_create(
        scope=scope,
        scope_id=scope_id,
        defaults={
            "id": new_id(),
            "project": project,
            "limit": limit,
            "currency": settings.EKLAVYA_CURRENCY,
            "created_at": now,
        },
    )


def reserve(
    *, run_id: UUID, agent_id: UUID, project_id: UUID, model: str, amount: Decimal, price: Price, now: datetime
) -> Reservation:
    """Hold `amount`, the most that a request can cost, in the run's three budgets.

    Raises OverBudget with nothing held when it does not fit one of them, NoBudget when the run has none. A refusal
    that no request under way can lift is recorded, so call it outside of any transaction.
    """
    reservation = Reservation(
        id=new_id(),
        project_id=project_id,
        run_id=run_id,
        agent_id=agent_id,
        model=model,
        price=price,
        amount=amount,
        created_at=now,
        expires_at=now + RESERVATION_LIFETIME,
    )
    try:
        with transaction.atomic():
            _check_fits(statements.lock(project_id, run_id), amount)
            _hold(reservation)
    except OverBudget as refusal:
        if refusal.is_final:
            _record_refusal(refusal, project_id=project_id, run_id=run_id, agent_id=agent_id, now=now)
        raise
    return reservation


def _check_fits(budgets: Sequence[LockedBudget], amount: Decimal) -> None:
    if len(budgets) != len(Budget.Scope):
        raise NoBudget
    for full in (budget for budget in budgets if not budget.fits(amount)):
        raise OverBudget(full.scope, full.limit, full.settled, held=full.reserved, amount=amount)


def _hold(reservation: Reservation) -> None:
    held = statements.hold(
        {
            "id": reservation.pk,
            "line_id": new_id(),
            "project_id": reservation.project_id,
            "run_id": reservation.run_id,
            "agent_id": reservation.agent_id,
            "model": reservation.model,
            "price_id": reservation.price_id,
            "currency": reservation.price.currency,
            "amount": reservation.amount,
            "now": reservation.created_at,
            "expires_at": reservation.expires_at,
        }
    )
    assert held == len(Budget.Scope), "the rows are locked and were just found to have room"


def _record_refusal(refusal: OverBudget, *, project_id: UUID, run_id: UUID, agent_id: UUID, now: datetime) -> None:
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
    budgets = statements.lock(reservation.project_id, reservation.run_id)
    statements.close(
        {
            "id": reservation.pk,
            "project_id": reservation.project_id,
            "run_id": reservation.run_id,
            "amount": reservation.amount,
            "cost": spent,
            "status": status.value,
        }
    )
    for budget in budgets:
        if budget.scope != Budget.Scope.RUN:
            _warn(journal, budget, budget.settled + spent)


def _warn(journal: audit.Journal, budget: LockedBudget, spent: Decimal) -> None:
    reached = _threshold(spent, budget.limit)
    if reached <= budget.warned_percent:
        return
    warned = Budget.objects.get(pk=budget.id)
    Budget.objects.filter(pk=warned.pk).update(warned_percent=reached)
    facts = {"spent": spent, "limit": budget.limit, "percent": reached}
    journal.add(
        "billing.threshold_reached",
        project_id=budget.project_id,
        obj=warned,
        details={"scope": budget.scope} | facts,
        event=Event(BUDGET_WARNING, {"projectId": budget.project_id} | facts),
    )


def _threshold(spent: Decimal, limit: Decimal) -> int:
    """Return the highest threshold that `spent` reaches, or 0."""
    return max((percent for percent in THRESHOLDS if spent * 100 >= limit * percent), default=0)


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


def raise_limit(project: Project, new_limit: Decimal, *, by: Actor, now: datetime) -> None:
    """Set a project's limit; lower is allowed too, as long as it covers what is spent and held.

    Raises InvalidLimit otherwise.
    """
    if not (new_limit.is_finite() and 0 < new_limit < _MAX_LIMIT):
        raise InvalidLimit(f"A limit is a number above 0 and below {_MAX_LIMIT:,}.")
    with audit.journal(by=by, now=now) as journal:
        _open(Budget.Scope.PROJECT, project.pk, project.budget_limit, project=project, now=now)
        budget = Budget.objects.select_for_update().get(scope=Budget.Scope.PROJECT, scope_id=project.pk)
        if new_limit < (needed := budget.settled + budget.reserved):
            raise InvalidLimit(f"{needed:.4f} {budget.currency} are spent or held already: the limit cannot be lower.")
        Budget.objects.filter(pk=budget.pk).update(
            limit=new_limit, warned_percent=_threshold(budget.settled, new_limit)
        )
        journal.add(
            "billing.limit_changed",
            project_id=project.pk,
            obj=budget,
            details={"from": budget.limit, "to": new_limit},
        )
        projects.record_budget(project, limit=new_limit, spent=budget.settled, by=by, now=now)


def record_spending(project: Project, *, by: Actor = CASHIER, now: datetime) -> None:
    """Repeat on the project what its budget says, for pages and lists. Nothing to do before its first run."""
    budget = Budget.objects.filter(scope=Budget.Scope.PROJECT, scope_id=project.pk).first()
    if budget is not None:
        projects.record_budget(project, limit=budget.limit, spent=budget.settled, by=by, now=now)


def decide_budget(approval: Approval, decision: Decision, by: Actor, now: datetime) -> None:
    """Raise the project's limit to the number given and go on, or give the project up.

    The new limit is the first answer or else the comment. Raises InvalidDecision when it is no usable number.
    """
    project = approval.project
    if decision.option == "stop":
        projects.cancel_project(project, reason="The budget was not raised.", by=by, now=now)
        return
    try:
        raise_limit(project, _new_limit(decision), by=by, now=now)
    except InvalidLimit as error:
        raise InvalidDecision(str(error)) from error
    if project.status == ProjectStatus.PAUSED:
        projects.resume_project(project, by=by, now=now)


def _new_limit(decision: Decision) -> Decimal:
    said = next(iter(decision.answers), "").strip() or decision.comment.strip()
    try:
        return Decimal(said.removeprefix("$").replace(",", "")).quantize(Decimal("0.000001"))
    except InvalidOperation:
        raise InvalidDecision("Say the project's new limit as a number, such as 40 or 37.50.") from None


approvals.register(ApprovalKind.BUDGET, decide_budget)
