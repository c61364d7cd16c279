"""Recording who came to the agent gateway without a token of a working run, at whichever door, and not for ever.

Each address once a minute and door, with the number of its requests since the row before; and of all addresses together
a bounded number of rows a minute, the rest of them under one name. What a stranger says is not recorded, but for the
path of a door that does not exist.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from django.db import Error
from starlette.requests import Request

from agents.actions.usage import GATEWAY
from agents.gateway.database import Database
from projects import audit

# Not by the clock on the wall, which may jump.
_EVERY_S = 60.0
MOST_ROWS = 50
OTHERS = "(others)"
_MOST_REMEMBERED = 1_000
_PATH_CHARS = 100
logger = logging.getLogger(__name__)


class Door(StrEnum):
    """Where a stranger came, by the action of its row."""

    MODEL = "model.refused"
    MCP = "mcp.refused"
    NONE = "gateway.refused"
    """A path that the gateway does not have."""


def peer_of(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else ""


class Strangers:
    """All of one gateway."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._minute_began = clock() - _EVERY_S
        self._named: set[tuple[Door, str]] = set()  # in this minute
        self._requests: Counter[tuple[Door, str]] = Counter()  # since the row before

    async def note(self, door: Door, peer: str, *, now: datetime, path: str = "") -> None:
        """Record a request. Whatever it was answered must not fail for it."""
        requests = self._count(door, peer)
        if requests is None:
            return
        name, number = requests
        details: dict[str, str | int] = {"from": name, "kind": "authentication_error", "requests": number}
        if path:
            details["path"] = path[:_PATH_CHARS]
        try:
            await self._database.call(_write, door, details, now=now)
        except Error:  # also of a connection that has broken, which is no DatabaseError
            logger.warning("a stranger could not be recorded", exc_info=True)

    def _count(self, door: Door, peer: str) -> tuple[str, int] | None:
        """Count a request; return whose row is due, and of how many requests."""
        now = self._clock()
        if now - self._minute_began >= _EVERY_S:
            self._minute_began = now
            self._named.clear()
        key = (door, peer)
        if key not in self._named and len(self._named) >= MOST_ROWS:
            key = (door, OTHERS)
        self._requests[key] += 1
        if key in self._named:
            return None
        self._named.add(key)
        if len(self._requests) > _MOST_REMEMBERED:
            self._requests = Counter({key: self._requests[key]})
        return key[1], self._requests.pop(key)


def _write(door: Door, details: dict[str, str | int], *, now: datetime) -> None:
    with audit.journal(by=GATEWAY, now=now) as journal:
        journal.add(door.value, details=details)
