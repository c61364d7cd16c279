"""Limits: opening budgets, and people's changes to them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection

from billing.actions.warnings import CASHIER, threshold_of
from billing.errors import InvalidLimit
from billing.models import Budget
from billing.statements import ACCOUNT_ID
from projects import audit
from projects.actions import approvals, projects
from projects.actions.approvals import Decision
from projects.actors import Actor
from projects.errors import InvalidDecision
from projects.ids import new_id
from projects.models import Approval, Project
from projects.states import ApprovalKind, ProjectStatus

Scope = Budget.Scope
MAX_LIMIT = Decimal(10) ** 8  # what the column holds, exclusive
# Somebody else's work waits behind the account's limit, and the project's and a run's are part of their plan.
NEEDS_LIMIT = frozenset({Scope.ACCOUNT, Scope.PROJECT, Scope.RUN})


@dataclass(frozen=True)
class Opening:
    """A run that needs budgets: its own has `run_limit`."""

    project: Project
    run_id: UUID
    run_limit: Decimal
    agent_id: UUID | None = None


def open_budgets(runs: Sequence[Opening], *, now: datetime) -> None:
    """Make sure that each level of these runs has a budget, in as many statements as for one. Again changes nothing.

    Client and agent start without a limit. The account's limit follows the settings when those change, unless more
    than that is spent or held already.
    """
    mine = {run.project.pk: run.project for run in runs}
    clients = Project.objects.filter(pk__in=mine, client__isnull=False).values_list("client_id", flat=True)
    with audit.journal(by=CASHIER, now=now) as journal:
        account = settings.EKLAVYA_ACCOUNT_LIMIT
        rows = [_New(Scope.ACCOUNT, ACCOUNT_ID, account, default_limit=account)]
        rows += [_New(Scope.PROJECT, one.pk, one.budget_limit, one.pk) for one in mine.values()]
        rows += [_New(Scope.CLIENT, client_id, None) for client_id in set(clients)]
        rows += [_New(Scope.AGENT, run.agent_id, None, run.project.pk) for run in runs if run.agent_id]
        # Most of these are there, and a run's is not.
        there = Budget.objects.filter(
            scope__in={row.scope for row in rows}, scope_id__in=[row.scope_id for row in rows]
        )
        known = set(there.values_list("scope", "scope_id"))
        rows += [_New(Scope.RUN, run.run_id, run.run_limit, run.project.pk) for run in runs]
        _open([row for row in rows if (row.scope, row.scope_id) not in known], now=now)
        _follow_settings(journal)


class _New(NamedTuple):
    """A budget that is to be there: its columns that are not the same for all."""

    scope: str
    scope_id: UUID
    limit: Decimal | None
    project_id: UUID | None = None
    default_limit: Decimal | None = None


_OPEN = """
INSERT INTO billing_budget
    (id, scope, scope_id, "limit", project_id, default_limit, reserved, settled, currency, warned_percent, created_at)
SELECT missing.*, 0, 0, %s, 0, %s
FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::numeric[], %s::uuid[], %s::numeric[]) AS missing
ON CONFLICT DO NOTHING
"""


def _open(missing: Sequence[_New], *, now: datetime) -> None:
    """Insert those that are not there, in one order, so that two who open the same do not wait for each other."""
    if not missing:
        return
    rows = sorted(missing, key=lambda row: row[:2])
    values: list[list[Any]] = [
        [new_id() for _ in rows],
        [row.scope for row in rows],
        [row.scope_id for row in rows],
        _exact(row.limit for row in rows),
        [row.project_id for row in rows],
        _exact(row.default_limit for row in rows),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, [settings.EKLAVYA_CURRENCY, now, *values])


def _exact(limits: Iterable[Decimal | None]) -> list[Decimal | None]:
    """Return them as one type: whoever made a project by hand may have given it a whole number."""
    return [None if limit is None else Decimal(limit) for limit in limits]


def _follow_settings(journal: audit.Journal) -> None:
    limit = settings.EKLAVYA_ACCOUNT_LIMIT
    account = Budget.objects.select_for_update().filter(scope=Scope.ACCOUNT, scope_id=ACCOUNT_ID)
    # Looked at without a lock first: each dispatched run comes by here, and the row is everybody's.
    if not account.exclude(default_limit=limit).select_for_update(no_key=True).exists():
        return
    budget = account.get()
    if budget.settled + budget.reserved > limit:
        return
    _change(budget, limit, journal=journal, default_limit=limit)


def set_limit(budget: Budget, new_limit: Decimal | None, *, by: Actor, now: datetime) -> None:
    """Set the limit of any level; lower is allowed too, as long as it covers what is spent and held.

    None takes the limit of a client or an agent away. Raises InvalidLimit for what cannot be.
    """
    _check_number(new_limit, Scope(budget.scope))
    with audit.journal(by=by, now=now) as journal:
        locked = Budget.objects.select_for_update().select_related(None).get(pk=budget.pk)
        needed = locked.settled + locked.reserved
        if new_limit is not None and new_limit < needed:
            raise InvalidLimit(f"{needed:.4f} {locked.currency} are spent or held already: the limit cannot be lower.")
        _change(locked, new_limit, journal=journal)
        if locked.scope == Scope.PROJECT:
            assert locked.project is not None
            assert new_limit is not None
            projects.record_budget(locked.project, limit=new_limit, spent=locked.settled, by=by, now=now)


def _check_number(new_limit: Decimal | None, scope: Scope) -> None:
    if new_limit is None:
        if scope in NEEDS_LIMIT:
            raise InvalidLimit(f"The {scope.label.lower()} always has a limit: say how much.")
        return
    if not (new_limit.is_finite() and 0 < new_limit < MAX_LIMIT):
        raise InvalidLimit(f"A limit is a number above 0 and below {MAX_LIMIT:,}.")


def _change(budget: Budget, limit: Decimal | None, *, journal: audit.Journal, **fields: Decimal) -> None:
    # What is below the new limit's thresholds is announced again when it is reached.
    warned = threshold_of(budget.settled, limit)
    Budget.objects.filter(pk=budget.pk).update(limit=limit, warned_percent=warned, **fields)
    journal.add(
        "billing.limit_changed",
        project_id=budget.project_id,
        obj=budget,
        details={"scope": budget.scope, "scope_id": budget.scope_id, "from": budget.limit, "to": limit},
    )


def raise_limit(project: Project, new_limit: Decimal, *, by: Actor, now: datetime) -> None:
    """Set a project's limit, before its first run too; as `set_limit`."""
    with audit.journal(by=by, now=now):
        _open([_New(Scope.PROJECT, project.pk, project.budget_limit, project.pk)], now=now)
        set_limit(Budget.objects.get(scope=Scope.PROJECT, scope_id=project.pk), new_limit, by=by, now=now)


def record_spending(project: Project, *, by: Actor = CASHIER, now: datetime) -> None:
    """Repeat on the project what its budget says, for pages and lists. Nothing to do before its first run."""
    budget = Budget.objects.filter(scope=Scope.PROJECT, scope_id=project.pk).first()
    if budget is not None and budget.limit is not None:
        projects.record_budget(project, limit=budget.limit, spent=budget.settled, by=by, now=now)


def decide_budget(approval: Approval, decision: Decision, by: Actor, now: datetime) -> None:
    """Raise the limit that was asked for to the number given and go on, or give the project up.

    `approval.subject_id` is the id of the budget whose limit is in the way, or of the project, which means its own.
    The new limit is the first answer or else the comment; with a plus sign it is what to add. Raises InvalidDecision
    when it is no usable number.
    """
    project = approval.project
    if decision.option == "stop":
        projects.cancel_project(project, reason="The budget was not raised.", by=by, now=now)
        return
    budget = Budget.objects.filter(pk=approval.subject_id).first()
    try:
        if budget is None:
            raise_limit(project, _new_limit(decision, project.budget_limit), by=by, now=now)
        else:
            set_limit(budget, _new_limit(decision, budget.limit or Decimal(0)), by=by, now=now)
    except InvalidLimit as error:
        raise InvalidDecision(str(error)) from error
    # `raise_limit` wrote to a row of its own.
    project.refresh_from_db(fields=["status", "paused_from", "budget_limit"])
    if project.status == ProjectStatus.PAUSED:
        projects.resume_project(project, by=by, now=now)


def _new_limit(decision: Decision, current: Decimal) -> Decimal:
    said = next(iter(decision.answers), "").strip() or decision.comment.strip()
    number = said.removeprefix("+").strip().removeprefix("$").replace(",", "")
    try:
        amount = Decimal(number).quantize(Decimal("0.000001"))
    except InvalidOperation:
        raise InvalidDecision("Say the new limit as a number, such as 40 or 37.50, or what to add, as +10.") from None
    if not said.startswith("+"):
        return amount
    if not amount > 0:
        raise InvalidDecision("Say how much to add, such as +10.")
    return current + amount


approvals.register(ApprovalKind.BUDGET, decide_budget)
