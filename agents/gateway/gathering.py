"""Asking the database about many at once: whoever comes while an exchange is under way shares the next one.

When hundreds of agents speak in one moment the event loop comes round slowly, and one exchange after the other would
take longer than the last of them waits. So each waits for two exchanges at most, however many there are; and while the
database is away it is asked again, for as long as somebody waits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

import psycopg
from django.db import OperationalError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
MOST_AT_ONCE = 256
_PAUSE_S = 0.2
logger = logging.getLogger(__name__)


class Gathered(Generic[K, V]):
    """`ask` gets different keys, `MOST_AT_ONCE` at most, and returns the answers that there are to them.

    It is never asked twice at a time. Where it raises psycopg.Error or OSError the database is away.
    """

    def __init__(self, ask: Callable[[Collection[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[K, asyncio.Future[V | None]]] = []
        self._working: asyncio.Task[None] | None = None

    async def of(self, key: K, *, patience_s: float) -> V | None:
        """Return the answer to a key, of an exchange that begins later than now; None where there is none.

        Raises OperationalError when the database has not answered in time.
        """
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        try:
            async with asyncio.timeout(patience_s):
                return await answer
        except TimeoutError:
            raise OperationalError(f"the database has not answered for {patience_s:g} s") from None

    async def stop(self) -> None:
        """Ask nothing any more."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = None  # one that had not begun says nothing itself

    async def _work(self) -> None:
        try:
            while self._waiting:
                served, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                if not await self._serve(served):
                    self._waiting = served + self._waiting
                    await asyncio.sleep(_PAUSE_S)
                # Whoever went away, or waited for long enough, needs no answer.
                self._waiting = [one for one in self._waiting if not one[1].done()]
        finally:
            self._working = None

    async def _serve(self, served: list[tuple[K, "asyncio.Future[V | None]"]]) -> bool:
        """Ask for those who are served. Return whether there was an answer."""
        try:
            answers = await self._ask({key for key, _ in served})
        except (psycopg.Error, OSError) as error:
            logger.warning("the database does not answer: %s", error)
            return False
        except Exception as error:
            for _, answer in served:
                if not answer.done():
                    answer.set_exception(error)
            return True
        for key, answer in served:
            if not answer.done():
                answer.set_result(answers.get(key))
        return True
