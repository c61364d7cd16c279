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

from agents.gateway.callers import Caller
from agents.gateway.lane import Lane, Row, Step
from agents.states import RunStatus
from billing import batches
from billing.actions.reservations import line_of
from billing.batches import Books
from billing.errors import OverBudget
from billing.models import LedgerEntry, Price, Reservation
from billing.prices import Usage, cost
from projects.errors import DomainError

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 64
_CLOSES_WAIT_S = 0.03
_RUNS = """
SELECT r.id, r.status, r.turns, r.stop_requested, COALESCE(r.max_turns, m.max_turns), p.client_id
FROM agents_run r JOIN projects_project p ON p.id = r.project_id
JOIN agents_agent a ON a.id = r.agent_id LEFT JOIN projects_squadmember m ON m.id = a.member_id
WHERE r.id = ANY($1::uuid[])
"""
_USED = """
WITH v AS (
    SELECT * FROM json_to_recordset($1::json) AS v (run_id uuid, turns int, tokens bigint, cost numeric, at timestamptz)
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
    was_refused: bool = False
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
        self._holds: list[_Hold] = []
        self._closes: list[_Close] = []
        self._hold_came = asyncio.Event()
        self._is_stopping = False
        self._working: asyncio.Task[None] | None = None
        self._lane = Lane()

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
        item = _Hold(caller, reservation, in_flight)
        self._holds.append(item)
        self._hold_came.set()
        await self._done(item)
        return reservation

    async def close(self, caller: Caller, reservation: Reservation, usage: Usage | None, *, now: datetime) -> Decimal:
        """Settle a request at what it used, or give its money back where it used nothing. Return the cost.

        Raises Unusual with nothing done when it is one for `accounts.close`.
        """
        item = _Close(caller, reservation, usage, now)
        self._closes.append(item)
        return await self._done(item)

    async def stop(self) -> None:
        """Finish what waits, and hang up."""
        self._is_stopping = True
        self._hold_came.set()
        while self._working is not None:
            await asyncio.wait({self._working})
        await self._lane.hang_up()

    async def _done(self, item: _Item) -> Decimal:
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        # Not cancelled with the one who waits: its money may be held already.
        return await asyncio.shield(item.done)

    async def _work(self) -> None:
        try:
            while items := await self._next():
                await self._together(items)
        finally:
            self._working = None

    async def _next(self) -> list[_Item]:
        """Return what is to be done now. Whoever asks for money is waited for by an agent, whoever brings it by nobody:
        those come together, a little later, or when there is not enough money without them."""
        if self._closes and not self._holds and not self._is_stopping:
            self._hold_came.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hold_came.wait(), _CLOSES_WAIT_S)
        holds, self._holds = self._holds[:_MOST_AT_ONCE], self._holds[_MOST_AT_ONCE:]
        if holds and len(self._closes) < _MOST_AT_ONCE and not any(hold.was_refused for hold in holds):
            return [*holds]
        closes, self._closes = self._closes[:_MOST_AT_ONCE], self._closes[_MOST_AT_ONCE:]
        return [*closes, *holds]

    async def _together(self, items: Sequence[_Item]) -> None:
        try:
            results = await self._transact(items)
        except BaseException as error:
            await self._lane.hang_up()
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
            if isinstance(item, _Hold) and isinstance(result, OverBudget) and self._closes and not item.was_refused:
                item.was_refused = True
                self._holds.append(item)
            else:
                _finish(item, result)

    async def _transact(self, items: Sequence[_Item]) -> list[Decimal | Exception]:
        holds = [item for item in items if isinstance(item, _Hold)]
        closes = [item for item in items if isinstance(item, _Close)]
        runs = batches.as_array({item.caller.run_id for item in holds})
        levels = [
            batches.as_array({item.caller.project_id for item in holds}),
            batches.as_array({item.caller.agent_id for item in holds}),
            runs,
            batches.as_array({budget for item in closes for budget in item.reservation.budget_ids}),
        ]
        # What nobody needs is not asked: most of the time there are only holds, or only closes.
        looking: list[Step] = [("BEGIN", [])]
        if closes:
            looking.append((batches.CLAIM, [batches.as_array(item.reservation.pk for item in closes)]))
        if holds:
            looking.append((_RUNS, [runs]))
        tables = iter(await self._lane.run([*looking, (batches.LOCK, levels)]))
        claimed = next(tables) if closes else []
        found = next(tables) if holds else []
        budgets = next(tables)
        batch = _Batch(Books(budgets), found, claimed)
        # What is given back makes room for what is asked for.
        results: dict[int, Decimal | Exception] = {}
        for close in closes:
            results[id(close)] = batch.take(close)
        for hold in holds:
            results[id(hold)] = batch.take(hold)
        await self._lane.run([*batch.statements(), ("COMMIT", [])])
        return [results[id(item)] for item in items]


class _Batch:
    """What one transaction looked at, and what it is going to write."""

    def __init__(self, books: Books, runs: list[Row], claimed: list[Row]) -> None:
        self._books = books
        self._runs = {row[0]: row[1:] for row in runs}
        self._claimed = {row[0] for row in claimed}
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
        run = self._runs.get(str(item.caller.run_id))
        if run is None or run[0] not in _WORKING:
            raise RunOver
        _, turns, stop_requested, max_turns, client_id = run
        if stop_requested:
            raise RunStopping(stop_requested)
        if max_turns is not None and int(turns or 0) + item.in_flight > int(max_turns):
            raise TurnsUsed(max_turns)
        reservation = item.reservation
        reservation.client_id = UUID(client_id) if client_id else None
        reservation.budget_ids = self._books.hold(batches.levels_of(reservation), reservation.amount)
        self._reservations.append(reservation)
        kind = LedgerEntry.Kind.RESERVE
        self._lines.append(line_of(reservation, kind, reservation.amount, now=reservation.created_at))
        return reservation.amount

    def _close(self, item: _Close) -> Decimal:
        reservation, usage = item.reservation, item.usage
        if str(reservation.pk) not in self._claimed:
            raise Unusual  # it expired, or was closed by a commit whose answer was lost
        spent = cost(reservation.price, usage) if usage else Decimal(0)
        if self._books.is_unusual(reservation.budget_ids, reservation.amount, spent):
            raise Unusual
        self._books.close(reservation.budget_ids, reservation.amount, spent)
        self._closed.append({"id": reservation.pk, "status": _status(usage)})
        kind = LedgerEntry.Kind.RELEASE if usage is None else LedgerEntry.Kind.SETTLE
        amount = reservation.amount if usage is None else spent
        self._lines.append(line_of(reservation, kind, amount, usage=usage, now=item.now))
        if usage is not None:
            self._count(item.caller.run_id, usage, spent, item.now)
        return spent

    def _count(self, run_id: UUID, usage: Usage, spent: Decimal, now: datetime) -> None:
        none = {"run_id": run_id, "turns": 0, "tokens": 0, "cost": Decimal(0), "at": now}
        used = self._used.setdefault(run_id, none)
        used["turns"] += 1
        used["tokens"] += usage.total
        used["cost"] += spent

    def statements(self) -> list[Step]:
        """Return what is to be written."""
        parts = [
            (batches.CLOSE, batches.as_json(self._closed) if self._closed else ""),
            (batches.STORE, batches.as_json(changes) if (changes := self._books.changes()) else ""),
            (batches.insertion(Reservation), batches.written(self._reservations) if self._reservations else ""),
            (batches.insertion(LedgerEntry), batches.written(self._lines) if self._lines else ""),
            (_USED, batches.as_json(self._used.values()) if self._used else ""),
        ]
        return [(statement, [parameter]) for statement, parameter in parts if parameter]


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
