"""Remembering what the database said, so that requests do not wait for it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_MOST = 4_096
logger = logging.getLogger(__name__)


@dataclass
class _Entry(Generic[V]):
    value: V
    since: float
    again: "asyncio.Task[None] | None" = None


class Remembered(Generic[K, V]):
    """Answers of `look`, which are looked up again while they are still used.

    Only the first who asks waits, and whoever asks after a long silence. All others get what is known, at once; when it
    is older than `fresh_s` it is looked up again meanwhile, for the next, and one older than `usable_s` is not given
    any more. What `look` raises comes out where it is waited for; behind somebody's back it makes the next one wait.

    Look-ups may overtake each other: the answer is kept whose look-up began last, and none that began before `forget`.
    """

    def __init__(self, look: Callable[[K], Awaitable[V]]) -> None:
        self._look = look
        self._known: dict[K, _Entry[V]] = {}
        self._forgot_at = float("-inf")

    async def of(self, key: K, *, fresh_s: float, usable_s: float) -> V:
        """Return the answer for a key, at most `usable_s` old."""
        entry = self._known.get(key)
        age = time.monotonic() - entry.since if entry else 0
        if entry is None or age >= usable_s:
            return await self._look_up(key)
        if age >= fresh_s and entry.again is None:
            entry.again = asyncio.create_task(self._look_again(key, entry))
        return entry.value

    def forget(self) -> None:
        """Look each of them up anew. What is being looked up now is given to whoever waits for it, and not kept."""
        self._known.clear()
        self._forgot_at = time.monotonic()

    async def _look_up(self, key: K) -> V:
        since = time.monotonic()
        value = await self._look(key)
        self._keep(key, value, since)
        return value

    def _keep(self, key: K, value: V, since: float) -> None:
        """Keep an answer, unless it was asked for before a later one that is known, or before all was forgotten."""
        entry = self._known.get(key)
        if since <= self._forgot_at or (entry is not None and since < entry.since):
            return
        self._known.pop(key, None)
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]  # the one that was looked up longest ago
        self._known[key] = _Entry(value, since)

    async def _look_again(self, key: K, entry: _Entry[V]) -> None:
        try:
            await self._look_up(key)
        except Exception as error:  # whatever it is: the next one who asks is told
            if self._known.get(key) is entry:
                del self._known[key]
            logger.info("looking up again failed: %r", error)
