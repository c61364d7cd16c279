"""The statements that change a request's three budgets together.

Every model request waits for the first two of them, and all of them lock the account's row. So they are few, short and
written by hand: the ORM would need three times as many trips to the database.

Locking and changing are two statements on purpose. A statement that waited for a lock still sees the other tables, and
its own subqueries, as they were when it began; the next one sees what the other transaction left behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

ACCOUNT_ID = UUID(int=0)

_OF_THE_RUN = "(scope, scope_id) IN (('account', %(account)s), ('project', %(project_id)s), ('run', %(run_id)s))"
# Account, project, run: alphabetical by luck, and tested. Rows are locked in the order in which they are returned.
_LOCK = f"""
SELECT id, scope, project_id, "limit", settled, reserved, warned_percent
FROM billing_budget WHERE {_OF_THE_RUN} ORDER BY scope FOR UPDATE
"""
_HOLD = f"""
WITH held AS (
    UPDATE billing_budget SET reserved = reserved + %(amount)s
    WHERE {_OF_THE_RUN} AND settled + reserved + %(amount)s <= "limit"
    RETURNING id
), reservation AS (
    INSERT INTO billing_reservation
        (id, project_id, run_id, agent_id, model, price_id, amount, status, created_at, expires_at)
    VALUES (%(id)s, %(project_id)s, %(run_id)s, %(agent_id)s, %(model)s, %(price_id)s, %(amount)s, 'open', %(now)s,
        %(expires_at)s)
), line AS (
    INSERT INTO billing_ledgerentry
        (id, kind, project_id, run_id, agent_id, request_id, amount, currency, model, price_id, input_tokens,
        output_tokens, cache_write_tokens, long_cache_write_tokens, cache_read_tokens, note, created_at)
    VALUES (%(line_id)s, 'reserve', %(project_id)s, %(run_id)s, %(agent_id)s, %(id)s, %(amount)s, %(currency)s,
        %(model)s, %(price_id)s, 0, 0, 0, 0, 0, '', %(now)s)
)
SELECT count(*) FROM held
"""
# A cost above what was held goes in as far as there is room.
_CLOSE = f"""
WITH closed AS (
    UPDATE billing_reservation SET status = %(status)s WHERE id = %(id)s
)
UPDATE billing_budget
SET reserved = reserved - %(amount)s, settled = LEAST(settled + %(cost)s, "limit" - reserved + %(amount)s)
WHERE {_OF_THE_RUN}
"""


@dataclass(frozen=True)
class LockedBudget:
    """A budget as it was when it was locked."""

    id: UUID
    scope: str
    project_id: UUID | None
    limit: Decimal
    settled: Decimal
    reserved: Decimal
    warned_percent: int

    def fits(self, amount: Decimal) -> bool:
        """Whether there is room for `amount`."""
        return self.settled + self.reserved + amount <= self.limit


def lock(project_id: UUID, run_id: UUID) -> list[LockedBudget]:
    """Lock the budgets that a run spends from until the transaction ends, and return them in their order."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, {"account": ACCOUNT_ID, "project_id": project_id, "run_id": run_id})
        return [LockedBudget(*row) for row in cursor.fetchall()]


def hold(values: Mapping[str, Any]) -> int:
    """Hold an amount in the locked budgets, open the reservation and book it. Return how many budgets had room.

    `values`: id, line_id, project_id, run_id, agent_id, model, price_id, currency, amount, now, expires_at.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, {"account": ACCOUNT_ID, **values})
        count: int = cursor.fetchone()[0]
        return count


def close(values: Mapping[str, Any]) -> None:
    """Move a locked reservation's money from held to spent in the locked budgets.

    `values`: id, project_id, run_id, amount (what was held), cost, status (of the reservation from now on).
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLOSE, {"account": ACCOUNT_ID, **values})
