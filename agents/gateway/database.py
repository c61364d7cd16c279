"""Blocking work with the database, away from the event loop."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

P = ParamSpec("P")
R = TypeVar("R")

# Each call takes a few milliseconds; more threads than this would only queue for the same rows. Those of a burst wait
# for a thread, for as long as it takes; a thread that waited for a connection would give up.
THREADS = 16


class Database:
    """Runs functions that use the ORM on threads of its own. The connection goes back to the pool after each."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(THREADS, _most_connections()), thread_name_prefix="gateway-db")

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what `function` returns. A caller that is cancelled leaves it running to its end."""

        def work() -> R:
            try:
                return function(*args, **kwargs)
            finally:
                connections.close_all()

        return await sync_to_async(work, thread_sensitive=False, executor=self._threads)()

    def close(self) -> None:
        """Wait for what still runs, and let go of the pool: its threads would outlive the server."""
        self._threads.shutdown()
        for connection in connections.all():
            if isinstance(connection, DatabaseWrapper):
                connection.close_pool()


def _most_connections() -> int:
    pool = connections.settings["default"].get("OPTIONS", {}).get("pool") or {}
    return int(pool.get("max_size", THREADS)) if isinstance(pool, dict) else THREADS
