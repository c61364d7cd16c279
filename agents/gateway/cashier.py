"""The gateway's till: holds and closes requests' money, all that wait in one transaction, on one connection.

Every request of the house locks the account's budget, so transactions would only queue for it; here the requests queue
instead, and those that came meanwhile go together (group commit). Three trips to the database for any number: look and
lock, write and commit. What is rare and must be told to people goes the longer way (`accounts`).
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from django.db import InterfaceError, OperationalError
from django.db import connection as django_connection

from agents.gateway.callers import Caller
from agents.states import RunStatus
from billing import batches
from billing.batches import Books
from billing.models import LedgerEntry, Price, Reservation
from billing.prices import Usage, cost
from projects.errors import DomainError

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 64
# Longer than any other transaction holds a budget; then the request fails and the CLI asks again.
_SESSION = "SET lock_timeout = '10s'; SET statement_timeout = '20s'; SET timezone = 'UTC'"
_RUNS = """
SELECT r.id, r.status, r.turns, r.stop_requested, m.max_turns, p.client_id
FROM agents_run r JOIN projects_project p ON p.id = r.project_id
JOIN agents_agent a ON a.id = r.agent_id LEFT JOIN projects_squadmember m ON m.id = a.member_id
WHERE r.id = ANY(%s)
"""
_USED = """
WITH v AS (
    SELECT * FROM json_to_recordset(%s::json) AS v (run_id uuid, turns int, tokens bigint, cost numeric, at timestamptz)
), run AS (
    UPDATE agents_run r SET turns = r.turns + v.turns, tokens_used = r.tokens_used + v.tokens, cost = r.cost + v.cost,
        first_request_at = COALESCE(r.first_request_at, v.at), model_silent_since = NULL
    FROM v WHERE r.id = v.run_id RETURNING r.agent_id, v.tokens
)
UPDATE agents_agent a SET tokens_used = a.tokens_used + run.tokens FROM run WHERE a.id = run.agent_id
"""
_WORKING = frozenset({RunStatus.STARTING.value, RunStatus.RUNNING.value})


class RunOver(DomainError):
    """The run of this request works no more."""


class RunStopping(DomainError):
    """The run of this request is being stopped."""


class TurnsUsed(DomainError):
    """The run has used all its requests."""


class Unusual(Exception):
    """This settlement is one for `accounts.close`: people must be told of it, or it comes too late."""


@dataclass
class _Hold:
    caller: Caller
    reservation: Reservation
    in_flight: int
    done: asyncio.Future[Decimal] = field(default_factory=asyncio.Future)


@dataclass
class _Close:
    caller: Caller
    reservation: Reservation
    usage: Usage | None
    now: datetime
    done: asyncio.Future[Decimal] = field(default_factory=asyncio.Future)


_Item = _Hold | _Close


class Cashier:
    """The till of one event loop. Whoever is cancelled while waiting for it leaves the work to be done."""

    def __init__(self) -> None:
        self._waiting: list[_Item] = []
        self._working: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def hold(
        self, caller: Caller, *, model: str, amount: Decimal, price: Price, in_flight: int, now: datetime
    ) -> Reservation:
        """Hold `amount` for a request. `in_flight` counts the run's requests, this one included.

        Raises OverBudget, NoBudget, RunOver, RunStopping or TurnsUsed with nothing held.
        """
        reservation = batches.new_reservation(
            run_id=caller.run_id,
            agent_id=caller.agent_id,
            project_id=caller.project_id,
            model=model,
            amount=amount,
            price=price,
            now=now,
        )
        await self._do(_Hold(caller, reservation, in_flight))
        return reservation

    async def close(self, caller: Caller, reservation: Reservation, usage: Usage | None, *, now: datetime) -> Decimal:
        """Settle a request at what it used, or give its money back where it used nothing. Return the cost.

        Raises Unusual with nothing done when it is one for `accounts.close`.
        """
        return await self._do(_Close(caller, reservation, usage, now))

    async def stop(self) -> None:
        """Finish what waits, and hang up."""
        while self._working is not None:
            await asyncio.wait({self._working})
        await self._hang_up()

    async def _do(self, item: _Item) -> Decimal:
        self._waiting.append(item)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        # Not cancelled with the one who waits: its money may be held already.
        return await asyncio.shield(item.done)

    async def _work(self) -> None:
        try:
            while self._waiting:
                items, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
                await self._together(items)
        finally:
            self._working = None

    async def _together(self, items: Sequence[_Item]) -> None:
        try:
            results = await self._transact(items)
        except BaseException as error:
            await self._hang_up()
            away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError)
            if len(items) > 1 and isinstance(error, psycopg.Error) and not away:
                # One of them is broken: it must not take the others along.
                for item in items:
                    await self._together([item])
                return
            failure = _as_django(error)
            for item in items:
                _finish(item, failure)
            if not isinstance(error, Exception):
                raise
            return
        for item, result in zip(items, results, strict=True):
            _finish(item, result)

    async def _transact(self, items: Sequence[_Item]) -> list[Decimal | Exception]:
        connection = await self._connected()
        holds = [item for item in items if isinstance(item, _Hold)]
        closes = [item for item in items if isinstance(item, _Close)]
        wanted = {
            "project_ids": list({item.caller.project_id for item in holds}),
            "agent_ids": list({item.caller.agent_id for item in holds}),
            "run_ids": list({item.caller.run_id for item in holds}),
            "budget_ids": list({budget for item in closes for budget in item.reservation.budget_ids}),
        }
        async with connection.pipeline():
            await connection.execute("BEGIN")
            claimed = await connection.execute(batches.CLAIM, [[item.reservation.pk for item in closes]])
            runs = await connection.execute(_RUNS, [wanted["run_ids"]])
            budgets = await connection.execute(batches.LOCK, wanted)
            batch = _Batch(
                books=Books(await budgets.fetchall()),
                runs={row[0]: row[1:] for row in await runs.fetchall()},
                claimed={row[0] for row in await claimed.fetchall()},
            )
        # What is given back makes room for what is asked for.
        results: dict[int, Decimal | Exception] = {}
        for close in closes:
            results[id(close)] = batch.take(close)
        for hold in holds:
            results[id(hold)] = batch.take(hold)
        async with connection.pipeline():
            for statement, parameter in batch.statements():
                await connection.execute(statement, [parameter])
            await connection.execute("COMMIT")
        return [results[id(item)] for item in items]

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            # As Django would connect; what is of Django's own cursors stays away.
            given = django_connection.get_connection_params()
            kept = {name: value for name, value in given.items() if name not in _DJANGOS_OWN}
            self._connection = await psycopg.AsyncConnection.connect(**kept, autocommit=True, prepare_threshold=1)
            await self._connection.execute(_SESSION, prepare=False)
        return self._connection

    async def _hang_up(self) -> None:
        """Close the connection; an open transaction goes with it."""
        if self._connection is not None:
            with suppress(psycopg.Error, OSError):
                await self._connection.close()
            self._connection = None


_DJANGOS_OWN = {"context", "cursor_factory", "prepare_threshold", "pool", "server_side_binding", "autocommit"}


class _Batch:
    """What one transaction looked at, and what it is going to write."""

    def __init__(self, books: Books, runs: dict[UUID, tuple[Any, ...]], claimed: set[UUID]) -> None:
        self._books = books
        self._runs = runs
        self._claimed = claimed
        self._closed: list[dict[str, Any]] = []
        self._reservations: list[Reservation] = []
        self._lines: list[LedgerEntry] = []
        self._used: dict[UUID, dict[str, Any]] = {}

    def take(self, item: _Item) -> Decimal | Exception:
        """Put an item into the transaction, unless it cannot be done. Return the cost, or why not."""
        try:
            return self._hold(item) if isinstance(item, _Hold) else self._close(item)
        except (DomainError, Unusual) as error:
            return error

    def _hold(self, item: _Hold) -> Decimal:
        run = self._runs.get(item.caller.run_id)
        if run is None or run[0] not in _WORKING:
            raise RunOver
        _, turns, stop_requested, max_turns, client_id = run
        if stop_requested:
            raise RunStopping(stop_requested)
        if max_turns is not None and turns + item.in_flight > max_turns:
            raise TurnsUsed(str(max_turns))
        reservation = item.reservation
        reservation.client_id = client_id
        reservation.budget_ids = self._books.hold(batches.levels_of(reservation), reservation.amount)
        self._reservations.append(reservation)
        kind = LedgerEntry.Kind.RESERVE
        self._lines.append(batches.line(reservation, kind, reservation.amount, now=reservation.created_at))
        return reservation.amount

    def _close(self, item: _Close) -> Decimal:
        reservation, usage = item.reservation, item.usage
        if reservation.pk not in self._claimed:
            raise Unusual  # it expired, or was closed by a commit whose answer was lost
        spent = cost(reservation.price, usage) if usage else Decimal(0)
        if self._books.is_unusual(reservation.budget_ids, reservation.amount, spent):
            raise Unusual
        self._books.close(reservation.budget_ids, reservation.amount, spent)
        self._closed.append({"id": reservation.pk, "status": _status(usage)})
        kind = LedgerEntry.Kind.RELEASE if usage is None else LedgerEntry.Kind.SETTLE
        amount = reservation.amount if usage is None else spent
        self._lines.append(batches.line(reservation, kind, amount, usage=usage, now=item.now))
        if usage is not None:
            self._count(item.caller.run_id, usage, spent, item.now)
        return spent

    def _count(self, run_id: UUID, usage: Usage, spent: Decimal, now: datetime) -> None:
        none = {"run_id": run_id, "turns": 0, "tokens": 0, "cost": Decimal(0), "at": now}
        used = self._used.setdefault(run_id, none)
        used["turns"] += 1
        used["tokens"] += usage.total
        used["cost"] += spent

    def statements(self) -> list[tuple[str, str]]:
        """Return what is to be written."""
        parts = [
            (batches.CLOSE, batches.as_json(self._closed) if self._closed else ""),
            (batches.STORE, batches.as_json(changes) if (changes := self._books.changes()) else ""),
            (batches.insertion(Reservation), batches.written(self._reservations) if self._reservations else ""),
            (batches.insertion(LedgerEntry), batches.written(self._lines) if self._lines else ""),
            (_USED, batches.as_json(self._used.values()) if self._used else ""),
        ]
        return [(statement, parameter) for statement, parameter in parts if parameter]


def _status(usage: Usage | None) -> str:
    return (Reservation.Status.RELEASED if usage is None else Reservation.Status.SETTLED).value


def _finish(item: _Item, result: Decimal | Exception) -> None:
    if item.done.done():
        return
    if isinstance(result, Exception):
        item.done.set_exception(result)
        item.done.exception()  # whoever waited may be gone
    else:
        item.done.set_result(result)


def _as_django(error: BaseException) -> Exception:
    """Return a failure as Django would raise it, so that callers know one kind of "the database is away"."""
    if isinstance(error, psycopg.InterfaceError):
        return InterfaceError(str(error))
    if isinstance(error, psycopg.OperationalError | OSError) or not isinstance(error, Exception):
        return OperationalError(str(error))
    return error
