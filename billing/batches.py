"""The money of many requests in one short transaction: what `actions.reserve`, `settle` and `release` do for one.

The gateway's own path (`agents.gateway.cashier`), without the ORM: one transaction at a time, with one request or with
all that came meanwhile. Rows are locked in the order of `actions`: reservations, then budgets. What people must be told
of (a threshold, a cost above what was held, a refusal) is left to `actions`; see `Books.is_unusual`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection, models

from billing.actions.reservations import RESERVATION_LIFETIME, check_fits
from billing.actions.warnings import threshold_of
from billing.models import Budget, Price, Reservation
from billing.statements import ACCOUNT_ID, COLUMNS, LOCK_ORDER, LockedBudget
from projects.ids import new_id

# Statements take their parameters as text ($1, $2, …): arrays as `as_array` writes them, records as JSON.
# The budgets of projects ($1), agents ($2) and runs ($3) in which money is to be held, and others by their id ($4).
LOCK = f"""
WITH wanted (id) AS (
    SELECT unnest($4::uuid[])
    UNION SELECT id FROM billing_budget WHERE scope = 'account' AND scope_id = '{ACCOUNT_ID}'
    UNION SELECT id FROM billing_budget WHERE scope = 'project' AND scope_id = ANY($1::uuid[])
    UNION SELECT id FROM billing_budget WHERE scope = 'agent' AND scope_id = ANY($2::uuid[])
    UNION SELECT id FROM billing_budget WHERE scope = 'run' AND scope_id = ANY($3::uuid[])
    UNION SELECT id FROM billing_budget WHERE scope = 'client'
        AND scope_id IN (SELECT client_id FROM projects_project WHERE id = ANY($1::uuid[]))
)
SELECT {COLUMNS} FROM billing_budget WHERE id IN (SELECT id FROM wanted) ORDER BY {LOCK_ORDER} FOR UPDATE
"""
STORE = """
UPDATE billing_budget b SET reserved = v.reserved, settled = v.settled
FROM json_to_recordset($1::json) AS v (id uuid, reserved numeric, settled numeric) WHERE b.id = v.id
"""
# Returns those that are open; the others were closed before, or expired.
CLAIM = "SELECT id FROM billing_reservation WHERE id = ANY($1::uuid[]) AND status = 'open' FOR UPDATE"
CLOSE = """
UPDATE billing_reservation r SET status = v.status
FROM json_to_recordset($1::json) AS v (id uuid, status text) WHERE r.id = v.id
"""


def as_array(ids: Iterable[UUID]) -> str:
    """Return ids as an array for PostgreSQL."""
    return "{" + ",".join(str(one) for one in ids) + "}"


@cache
def insertion(model: type[models.Model]) -> str:
    """Return the statement that writes rows of a table, given as JSON (`written`)."""
    columns = [(field.column, field.db_type(connection)) for field in model._meta.concrete_fields]
    names = ", ".join(f'"{name}"' for name, _ in columns)
    types = ", ".join(f'"{name}" {kind}' for name, kind in columns)
    rows = f"json_to_recordset($1::json) AS v ({types})"
    return f"INSERT INTO {model._meta.db_table} ({names}) SELECT {names} FROM {rows}"


def written(rows: Iterable[models.Model]) -> str:
    """Return rows as JSON for `insertion`."""
    return as_json(
        {str(field.column): getattr(row, field.attname) for field in row._meta.concrete_fields} for row in rows
    )


def as_json(rows: Iterable[dict[str, Any]]) -> str:
    """Return records as JSON for PostgreSQL: ids, amounts and times as text, which it reads exactly."""
    return json.dumps(list(rows), default=str)


class Books:
    """The budgets of one transaction, as they will be after it. `rows` are those of LOCK; STORE writes `changes`."""

    def __init__(self, rows: Iterable[Sequence[str | None]]) -> None:
        self._budgets = {budget.id: budget for budget in map(_budget, rows)}
        self._by_level = {(budget.scope, budget.scope_id): budget.id for budget in self._budgets.values()}
        self._changed: set[UUID] = set()

    def hold(self, levels: Iterable[tuple[str, UUID | None]], amount: Decimal) -> list[UUID]:
        """Hold an amount in the budgets of these levels, as far as there are such, and return their ids.

        Raises NoBudget or OverBudget with nothing held.
        """
        ids = [self._by_level[level] for level in levels if level in self._by_level]
        check_fits([self._budgets[one] for one in ids], amount)
        for one in ids:
            self._change(one, reserved=self._budgets[one].reserved + amount)
        return ids

    def close(self, budget_ids: Sequence[UUID], held: Decimal, spent: Decimal) -> None:
        """Replace what was held by what was spent, which is no more."""
        for one in budget_ids:
            budget = self._budgets[one]
            self._change(one, reserved=budget.reserved - held, settled=budget.settled + spent)

    def is_unusual(self, budget_ids: Sequence[UUID], held: Decimal, spent: Decimal) -> bool:
        """Whether people must be told of this settlement, so that it is one for `actions.settle`."""
        return spent > held or any(
            budget.scope != Budget.Scope.RUN
            and threshold_of(budget.settled + spent, budget.limit) > budget.warned_percent
            for budget in (self._budgets[one] for one in budget_ids)
        )

    def changes(self) -> list[dict[str, Any]]:
        """Return the records for STORE."""
        changed = (self._budgets[one] for one in self._changed)
        return [{"id": one.id, "reserved": one.reserved, "settled": one.settled} for one in changed]

    def _change(self, budget_id: UUID, **fields: Decimal) -> None:
        self._budgets[budget_id] = replace(self._budgets[budget_id], **fields)  # type: ignore[arg-type]
        self._changed.add(budget_id)


def _budget(row: Sequence[str | None]) -> LockedBudget:
    """Read a row of COLUMNS."""
    budget_id, scope, scope_id, project_id, limit, settled, reserved, warned_percent = row
    return LockedBudget(
        id=UUID(str(budget_id)),
        scope=str(scope),
        scope_id=UUID(str(scope_id)),
        project_id=UUID(project_id) if project_id else None,
        limit=None if limit is None else Decimal(limit),
        settled=Decimal(str(settled)),
        reserved=Decimal(str(reserved)),
        warned_percent=int(str(warned_percent)),
    )


def levels_of(reservation: Reservation) -> list[tuple[str, UUID | None]]:
    """Return the levels whose budgets hold a reservation's money."""
    return [
        (Budget.Scope.ACCOUNT.value, ACCOUNT_ID),
        (Budget.Scope.CLIENT.value, reservation.client_id),
        (Budget.Scope.PROJECT.value, reservation.project_id),
        (Budget.Scope.AGENT.value, reservation.agent_id),
        (Budget.Scope.RUN.value, reservation.run_id),
    ]


def new_reservation(
    *, run_id: UUID, agent_id: UUID, project_id: UUID, model: str, amount: Decimal, price: Price, now: datetime
) -> Reservation:
    """Return a reservation that is held nowhere yet, and not written."""
    return Reservation(
        id=new_id(),
        project_id=project_id,
        run_id=run_id,
        agent_id=agent_id,
        budget_ids=[],
        model=model,
        price=price,
        amount=amount,
        created_at=now,
        expires_at=now + RESERVATION_LIFETIME,
    )
