"""Which process serves a run. What one run may use at a time is counted in the memory of a process, so only one may.

A hold is a session's advisory lock in PostgreSQL, which lets go of it when the process dies: no clock matters, nothing
is left behind. The first request of a run takes it; requests do not wait for it after that.
"""

import asyncio
import hashlib
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg

from agents.gateway.gathering import Gathered
from agents.gateway.lane import connect
from agents.gateway.unserved import ELSEWHERE

# While a process that was killed is noticed, or one that stops lets go, its successor waits.
_HANDOVER_S = 2.0
_PAUSE_S = 0.05
# A connection may have died without a word, and its locks with it.
_SURE_FOR_S = 5.0
_ATTEMPT_S = 10.0
_PATIENCE_S = 12.0
_MANY = 256

_TAKE = "SELECT key, pg_try_advisory_lock(key) FROM unnest(%s::bigint[]) AS key"
_ENDED = "SELECT id FROM agents_run WHERE id = ANY(%s) AND finished_at IS NOT NULL"
_LET_GO = "SELECT pg_advisory_unlock(%s)"


class ServedElsewhere(Exception):
    """Another process serves this run."""

    def __init__(self) -> None:
        super().__init__(ELSEWHERE)


class Holds:
    """The runs that this process serves. `kind` tells the services apart: of each, one process serves a run."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._sure_at = 0.0
        self._mine: set[UUID] = set()
        self._sweep_at = _MANY
        self._asked: Gathered[UUID, bool] = Gathered(self._take)

    async def take(self, run_id: UUID) -> None:
        """Hold the run from now on. Raises ServedElsewhere, and OperationalError while the database is away."""
        give_up = time.monotonic() + _HANDOVER_S
        while not await self._try(run_id):
            if time.monotonic() > give_up:
                raise ServedElsewhere
            await asyncio.sleep(_PAUSE_S)

    async def stop(self) -> None:
        """Let go of all."""
        await self._asked.stop()
        await self._hang_up()

    async def _try(self, run_id: UUID) -> bool:
        if run_id in self._mine and time.monotonic() < self._sure_at + _SURE_FOR_S:
            return True
        return bool(await self._asked.of(run_id, patience_s=_PATIENCE_S))

    async def _take(self, run_ids: Collection[UUID]) -> dict[UUID, bool]:
        """Take those that are not held yet, and return which are. Raises psycopg.Error or OSError: then none are."""
        try:
            async with asyncio.timeout(_ATTEMPT_S):
                connection = await self._connected()
                await self._let_go_of_ended(connection)
                keys = {self._key(run_id): run_id for run_id in run_ids if run_id not in self._mine}
                if keys:
                    rows = await (await connection.execute(_TAKE, [list(keys)])).fetchall()
                    self._mine.update(keys[key] for key, is_taken in rows if is_taken)
        except BaseException:
            await self._hang_up()
            raise
        return {run_id: run_id in self._mine for run_id in run_ids}

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
