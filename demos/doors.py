"""Looking up, from the event loop, what is behind a preview's address; remembered for a moment.

A page comes with dozens of requests; asking the database once for all of them is enough. What changes (a restart, a
revocation) is seen REMEMBERED_S later at most, also by connections that stay open (`until_closed`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from channels.db import database_sync_to_async
from django.utils import timezone

from demos import queries
from demos.queries import Door

REMEMBERED_S = 2.0
_MAX_REMEMBERED = 4_096
MAX_OPEN = 64
"""Connections to one preview at a time: one that hangs must not use up what all share."""


class DoorClosed(Exception):
    """What a connection was made through is not open any more."""


_remembered: dict[str, tuple[float, Door | None]] = {}
_open: Counter[str] = Counter()


async def find(token: str) -> Door | None:
    """Return what is behind a token; None for nothing. `token` is well-formed, or empty."""
    known = _remembered.get(token)
    if known and time.monotonic() < known[0]:
        return known[1]
    door = await _ask(token) if token else None
    if len(_remembered) >= _MAX_REMEMBERED:
        # Only somebody who tries addresses gets here.
        _remembered.clear()
    _remembered[token] = (time.monotonic() + REMEMBERED_S, door)
    return door


def forget(token: str) -> None:
    """Have the next `find` ask again: what is remembered turned out wrong."""
    _remembered.pop(token, None)


async def until_closed(token: str) -> None:
    """Raise DoorClosed when the door has closed, or leads elsewhere."""
    first = await find(token)
    while True:
        await asyncio.sleep(REMEMBERED_S)
        door = await find(token)
        if door is None or first is None or not door.is_open(timezone.now()) or door.address != first.address:
            raise DoorClosed


@contextmanager
def counted(token: str) -> Iterator[bool]:
    """Count a connection to a preview while it lasts; yields False when there are too many already."""
    if _open[token] >= MAX_OPEN:
        yield False
        return
    _open[token] += 1
    try:
        yield True
    finally:
        _open[token] -= 1
        if not _open[token]:
            del _open[token]


@database_sync_to_async  # type: ignore[untyped-decorator]
def _ask(token: str) -> Door | None:
    return queries.door(token)
