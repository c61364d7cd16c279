"""Which process serves a run. What one run may use at a time is counted in the memory of a process, so only one may.

A hold is a session's advisory lock in PostgreSQL, which lets go of it when the process dies: no clock matters, nothing
is left behind. The first request of a run takes it; requests do not wait for it after that.
"""

import asyncio
import hashlib
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
from django.db import OperationalError

from agents.gateway.lane import connect

# While a process that was killed is noticed, or one that stops lets go, its successor waits.
_HANDOVER_S = 2.0
_PAUSE_S = 0.05
# A connection may have died without a word, and its locks with it.
_SURE_FOR_S = 5.0
_LONGEST_S = 10.0
_MANY = 256

_TAKE = "SELECT pg_try_advisory_lock(%s)"
_ENDED = "SELECT id FROM agents_run WHERE id = ANY(%s) AND finished_at IS NOT NULL"
_LET_GO = "SELECT pg_advisory_unlock(%s)"
_AWAY = "the database does not say who serves a run"


class ServedElsewhere(Exception):
    """Another process serves this run."""

    def __init__(self) -> None:
        super().__init__("Another process of this kind serves this run. Run one of them for each machine, not more.")


class Holds:
    """The runs that this process serves. `kind` tells the services apart: of each, one process serves a run."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._sure_at = 0.0
        self._mine: set[UUID] = set()
        self._sweep_at = _MANY
        self._turn = asyncio.Lock()

    async def take(self, run_id: UUID) -> None:
        """Hold the run from now on. Raises ServedElsewhere, and OperationalError while the database is away."""
        give_up = time.monotonic() + _HANDOVER_S
        while not await self._try(run_id):
            if time.monotonic() > give_up:
                raise ServedElsewhere
            await asyncio.sleep(_PAUSE_S)

    async def stop(self) -> None:
        """Let go of all."""
        async with self._turn:
            await self._hang_up()

    async def _try(self, run_id: UUID) -> bool:
        if run_id in self._mine and time.monotonic() < self._sure_at + _SURE_FOR_S:
            return True
        # However many ask while the database is silent, each waits only so long.
        give_up = asyncio.get_running_loop().time() + _LONGEST_S
        try:
            async with asyncio.timeout_at(give_up):
                await self._turn.acquire()
        except TimeoutError:
            raise OperationalError(_AWAY) from None
        # Shielded: in the middle of an exchange the connection is nobody's to leave.
        return await asyncio.shield(self._ask(run_id, give_up))

    async def _ask(self, run_id: UUID, give_up: float) -> bool:
        """Ask until the time is up, and let the next one have its turn."""
        try:
            async with asyncio.timeout_at(give_up):
                connection = await self._connected()
                await self._let_go_of_ended(connection)
                if run_id not in self._mine and await _said(connection, _TAKE, self._key(run_id)):
                    self._mine.add(run_id)
        except (psycopg.Error, OSError) as error:  # a timeout is an OSError
            await self._hang_up()
            raise OperationalError(_AWAY) from error
        finally:
            self._turn.release()
        return run_id in self._mine

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is not None and time.monotonic() >= self._sure_at + _SURE_FOR_S:
            try:
                await self._connection.execute("SELECT 1")
            except psycopg.Error:
                await self._hang_up()  # its locks are gone with it: what was held has to be taken again
        if self._connection is None:
            self._connection = await connect()
        self._sure_at = time.monotonic()
        return self._connection

    async def _let_go_of_ended(self, connection: psycopg.AsyncConnection[Any]) -> None:
        if len(self._mine) < self._sweep_at:
            return
        for (run_id,) in await (await connection.execute(_ENDED, [list(self._mine)])).fetchall():
            self._mine.discard(run_id)
            await connection.execute(_LET_GO, [self._key(run_id)])
        self._sweep_at = _MANY + len(self._mine)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        self._mine.clear()
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()

    def _key(self, run_id: UUID) -> int:
        digest = hashlib.sha256(self._kind.encode() + run_id.bytes).digest()
        return int.from_bytes(digest[:8], signed=True)


async def _said(connection: psycopg.AsyncConnection[Any], statement: str, value: int) -> bool:
    row = await (await connection.execute(statement, [value])).fetchone()
    return bool(row and row[0])
