"""The statements that change a request's budgets together: one of each level that it has.

Every model request waits for the first two of them, and all of them lock the account's row. So they are few, short and
written by hand: the ORM would need three times as many trips to the database.

Locking and changing are two statements on purpose. A statement that waited for a lock still sees the other tables, and
its own subqueries, as they were when it began; the next one sees what the other transaction left behind.

Whoever locks more than one budget does it in the order of `LOCK_ORDER`, after the rows of reservations: then no two
transactions wait for each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

ACCOUNT_ID = UUID(int=0)
# Any total order would do; this one the unique index has, too. Rows are locked as they come out of the sort.
LOCK_ORDER = "scope, scope_id"

COLUMNS = 'id, scope, scope_id, project_id, "limit", settled, reserved, warned_percent'
_LOCK_RUN = f"""
SELECT {COLUMNS} FROM billing_budget
WHERE (scope, scope_id) IN (
    ('account', %(account)s), ('project', %(project_id)s), ('agent', %(agent_id)s), ('run', %(run_id)s),
    ('client', (SELECT client_id FROM projects_project WHERE id = %(project_id)s)))
ORDER BY {LOCK_ORDER} FOR UPDATE
"""
_LOCK = f"SELECT {COLUMNS} FROM billing_budget WHERE id = ANY(%(ids)s) ORDER BY {LOCK_ORDER} FOR UPDATE"
_HOLD = """
WITH held AS (
    UPDATE billing_budget SET reserved = reserved + %(amount)s WHERE id = ANY(%(budget_ids)s)
), reservation AS (
    INSERT INTO billing_reservation
        (id, project_id, client_id, run_id, agent_id, budget_ids, model, price_id, amount, status, created_at,
        expires_at)
    VALUES (%(id)s, %(project_id)s, %(client_id)s, %(run_id)s, %(agent_id)s, %(budget_ids)s, %(model)s, %(price_id)s,
        %(amount)s, 'open', %(now)s, %(expires_at)s)
)
INSERT INTO billing_ledgerentry
    (id, kind, project_id, client_id, run_id, agent_id, request_id, amount, currency, model, price_id, input_tokens,
    output_tokens, cache_write_tokens, long_cache_write_tokens, cache_read_tokens, note, created_at)
VALUES (%(line_id)s, 'reserve', %(project_id)s, %(client_id)s, %(run_id)s, %(agent_id)s, %(id)s, %(amount)s,
    %(currency)s, %(model)s, %(price_id)s, 0, 0, 0, 0, 0, '', %(now)s)
"""
# A cost above what was held goes in as far as there is room; LEAST passes over the limit that is none. A correction
# downwards (a negative cost) stops at nothing, because such a cost may not have gone in as a whole.
_CLOSE = """
WITH closed AS (
    UPDATE billing_reservation SET status = %(status)s WHERE id = %(id)s
)
UPDATE billing_budget
SET reserved = reserved - %(amount)s,
    settled = GREATEST(LEAST(settled + %(cost)s, "limit" - reserved + %(amount)s), 0)
WHERE id = ANY(%(budget_ids)s)
"""
_EXPIRE = """
WITH due AS (
    SELECT * FROM billing_reservation JOIN unnest(%(ids)s, %(line_ids)s) AS line (reservation_id, line_id)
        ON line.reservation_id = id
), closed AS (
    UPDATE billing_reservation SET status = 'expired' WHERE id = ANY(%(ids)s)
), booked AS (
    INSERT INTO billing_ledgerentry
        (id, kind, project_id, client_id, run_id, agent_id, request_id, amount, currency, model, price_id,
        input_tokens, output_tokens, cache_write_tokens, long_cache_write_tokens, cache_read_tokens, note, created_at)
    SELECT line_id, 'settle', project_id, client_id, run_id, agent_id, due.id, amount, currency, due.model, price_id,
        0, 0, 0, 0, 0, 'expired: real cost unknown', %(now)s
    FROM due JOIN billing_price ON billing_price.id = price_id
), sums AS (
    SELECT budget_id, sum(amount) AS amount FROM due, unnest(budget_ids) AS budget_id GROUP BY budget_id
)
UPDATE billing_budget SET reserved = reserved - sums.amount, settled = settled + sums.amount
FROM sums WHERE billing_budget.id = sums.budget_id
"""


@dataclass(frozen=True)
class LockedBudget:
    """A budget as it was when it was locked."""

    id: UUID
    scope: str
    scope_id: UUID
    project_id: UUID | None
    limit: Decimal | None
    settled: Decimal
    reserved: Decimal
    warned_percent: int

    def fits(self, amount: Decimal) -> bool:
        """Whether there is room for `amount`."""
        return self.limit is None or self.settled + self.reserved + amount <= self.limit


def lock_of_run(project_id: UUID, agent_id: UUID, run_id: UUID) -> list[LockedBudget]:
    """Lock the budgets that a run spends from until the transaction ends: those of its levels that there are."""
    ids = {"account": ACCOUNT_ID, "project_id": project_id, "agent_id": agent_id, "run_id": run_id}
    return _locked(_LOCK_RUN, ids)


def lock(budget_ids: Sequence[UUID]) -> list[LockedBudget]:
    """Lock these budgets until the transaction ends, and return them in the order of the locks."""
    return _locked(_LOCK, {"ids": list(budget_ids)})


def _locked(statement: str, values: Mapping[str, Any]) -> list[LockedBudget]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [LockedBudget(*row) for row in cursor.fetchall()]


def hold(values: Mapping[str, Any]) -> None:
    """Hold an amount in locked budgets that have room for it, open the reservation and book it.

    `values`: id, line_id, project_id, client_id, run_id, agent_id, budget_ids, model, price_id, currency, amount, now,
    expires_at.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, values)


def close(values: Mapping[str, Any]) -> None:
    """Move a locked reservation's money from held to spent in the locked budgets.

    `values`: id, budget_ids, amount (what is held), cost, status (of the reservation from now on).
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLOSE, values)


def expire(reservation_ids: Sequence[UUID], *, line_ids: Sequence[UUID], now: datetime) -> None:
    """Move the money of locked reservations from held to spent in their locked budgets, and book it: all at once."""
    with connection.cursor() as cursor:
        cursor.execute(_EXPIRE, {"ids": list(reservation_ids), "line_ids": list(line_ids), "now": now})
