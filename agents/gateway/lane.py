"""A connection to PostgreSQL that sends several statements and waits once for all of them.

psycopg's own pipeline goes through the event loop for each statement. Where the loop carries many streams each round of
it takes its time, and an agent waits for them all; so this talks to libpq itself (psycopg.pq), in the same protocol.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
from django.db import connection as django_connection
from psycopg import errors, pq

Step = tuple[str, Sequence[str]]
"""A statement and its parameters as text: $1, $2, … with their types written beside them."""
Row = tuple[str | None, ...]

# Longer than any other transaction holds a budget; then the request fails and the CLI asks again.
_SESSION = "SET lock_timeout = '10s'; SET statement_timeout = '20s'; SET timezone = 'UTC'"
_LONGEST_S = 30.0
_DJANGOS_OWN = {"context", "cursor_factory", "prepare_threshold", "pool", "server_side_binding", "autocommit"}
_GOOD = {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}


async def connect() -> psycopg.AsyncConnection[Any]:
    """Open a connection as Django would, without what is of Django's own cursors. Raises psycopg.Error."""
    given = django_connection.get_connection_params()
    kept = {name: value for name, value in given.items() if name not in _DJANGOS_OWN}
    connection = await psycopg.AsyncConnection.connect(**kept, autocommit=True)
    await connection.execute(_SESSION, prepare=False)
    return connection


class Lane:
    """One connection, for one caller at a time. It opens when it is needed; after a failure its caller hangs it up."""

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._prepared: dict[str, bytes] = {}

    async def run(self, steps: Sequence[Step], *, longest_s: float = _LONGEST_S) -> list[list[Row]]:
        """Run statements in their order and return the rows of each. Raises psycopg.Error; then hang up.

        `longest_s` is for all of it, connecting included: a stopped database takes connections and is silent.
        """
        try:
            async with asyncio.timeout(longest_s):
                libpq = await self._connected()
                for statement, parameters in steps:
                    self._send(libpq, statement, [parameter.encode() for parameter in parameters])
                libpq.pipeline_sync()
                while libpq.flush():
                    await _ready(libpq.socket, to_write=True)
                return await _results(libpq)
        except TimeoutError:
            raise psycopg.OperationalError("the database does not answer") from None

    async def hang_up(self) -> None:
        """Close the connection; an open transaction goes with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()

    def _send(self, libpq: pq.abc.PGconn, statement: str, parameters: list[bytes]) -> None:
        name = self._prepared.get(statement)
        if name is None:
            name = self._prepared[statement] = f"lane{len(self._prepared)}".encode()
            libpq.send_prepare(name, statement.encode())
        libpq.send_query_prepared(name, parameters)

    async def _connected(self) -> pq.abc.PGconn:
        if self._connection is None:
            self._connection = await connect()
            self._prepared = {}
            self._connection.pgconn.enter_pipeline_mode()
        return self._connection.pgconn


async def _results(libpq: pq.abc.PGconn) -> list[list[Row]]:
    """Read up to the mark behind the last statement. Preparing one has a result too, without columns."""
    tables: list[list[Row]] = []
    failure: pq.abc.PGresult | None = None
    while True:
        while libpq.is_busy():
            await _ready(libpq.socket, to_write=False)
            libpq.consume_input()
        result = libpq.get_result()
        if result is None:
            continue  # stands between two results
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            break
        if result.status == pq.ExecStatus.TUPLES_OK:
            tables.append(_rows(result))
        elif result.status not in _GOOD:
            failure = failure or result  # what follows is only passed over
    if failure is not None:
        raise errors.error_from_result(failure)
    return tables


def _rows(result: pq.abc.PGresult) -> list[Row]:
    columns = range(result.nfields)
    values = ((result.get_value(row, column) for column in columns) for row in range(result.ntuples))
    return [tuple(None if value is None else value.decode() for value in row) for row in values]


async def _ready(socket: int, *, to_write: bool) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)
    add(socket, _wake, done)
    try:
        await done
    finally:
        remove(socket)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
