"""Asking the model's API until it answers, for a while: back-off between attempts, and a breaker for all runs.

What is tried again is what the API itself calls passing (429, 529, other 5xx) and what it did not answer at all, and
only before the first byte of an answer. An agent's CLI would try again too, but each for itself; a breaker that all
share keeps hundreds of agents from asking a provider that is down.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agents.gateway.upstream import OK, Answer, Cut, Unreachable

logger = logging.getLogger(__name__)

# Overloaded or broken for the moment, by the API's own list. Whatever else it says is for the CLI.
_PASSING = frozenset({408, 429, 500, 502, 503, 504, 529})
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0
_SHORTEST_PAUSE_S = 0.1  # whatever the API asks for
_LARGEST_REFUSAL_BYTES = 1024 * 1024
_FAILURES_TO_OPEN = 5
_FIRST_OPEN_S = 5.0
_LONGEST_OPEN_S = 60.0


@dataclass(frozen=True)
class Refusal:
    """What the API said instead of an answer, read to its end."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def is_outage(self) -> bool:
        """Whether the API is to blame and not the request."""
        return self.status in _PASSING


class Silent(Exception):
    """There was no answer in the time that was given. `lost` counts the attempts that may have cost something."""

    def __init__(self, *, retry_after_s: float, lost: int) -> None:
        super().__init__("The model's API does not answer.")
        self.retry_after_s = retry_after_s
        self.lost = lost


@dataclass
class Breaker:
    """Whether a model of a provider is worth asking. Shared by all requests of this process.

    After some failures in a row nothing is sent for a while, then one request is: what it finds, counts for all.
    A refusal for too many requests (429) is an answer: it says that the provider works.
    """

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    open_until: float = 0.0
    is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it stands in the way of most requests."""
        return self.failures >= _FAILURES_TO_OPEN

    def wait_s(self) -> float:
        """Return how long to wait before asking; 0 is a permission, and the caller says what came of it."""
        if not self.is_open:
            return 0
        now = self.clock()
        if self.is_probing or now < self.open_until:
            return max(self.open_until - now, 0.1)
        self.is_probing = True
        return 0

    def succeeded(self) -> None:
        """The provider answered."""
        self.failures, self.is_probing = 0, False

    def failed(self) -> None:
        """The provider did not answer, or is overloaded."""
        self.failures, self.is_probing = self.failures + 1, False
        if self.is_open:
            pause = _FIRST_OPEN_S * 2 ** min(self.failures - _FAILURES_TO_OPEN, 10)
            self.open_until = self.clock() + min(pause, _LONGEST_OPEN_S)

    def abandoned(self) -> None:
        """Nobody waited for what would have come of it."""
        self.is_probing = False


Send = Callable[[], Awaitable[Answer]]


@dataclass
class Attempts:
    """Asks again, for at most `limit_s`. One for all requests of a process."""

    limit_s: float
    breakers: defaultdict[str, Breaker] = field(default_factory=lambda: defaultdict(Breaker))

    async def ask(self, send: Send, *, of: str) -> tuple[Answer | Refusal, int]:
        """Return the answer, open, or the refusal that stood at the end; and how many attempts were lost on the way.

        `of` names provider and model. Raises Silent when there was neither.
        """
        breaker, give_up, lost = self.breakers[of], time.monotonic() + self.limit_s, 0
        refusal: Refusal | None = None
        for number in range(1_000):
            pause = breaker.wait_s()
            if not pause:
                found = await _once(send, breaker)
                if isinstance(found, Answer) or (isinstance(found, Refusal) and not found.is_outage):
                    return found, lost
                if isinstance(found, Refusal):
                    refusal = found
                else:
                    lost += found.was_sent
                    logger.warning("%s does not answer: %s", of, found)
                pause = _pause_s(number, refusal if isinstance(found, Refusal) else None)
            if time.monotonic() + pause > give_up:
                break
            await asyncio.sleep(pause)
        if refusal is not None:
            return refusal, lost
        raise Silent(retry_after_s=max(pause, 1), lost=lost)


async def _once(send: Send, breaker: Breaker) -> Answer | Refusal | Unreachable:
    try:
        answer = await send()
        found = answer if answer.status == OK else await _read(answer)
    except Unreachable as error:
        breaker.failed()
        return error
    except BaseException:
        breaker.abandoned()
        raise
    if isinstance(found, Refusal) and found.is_outage and found.status != 429:
        breaker.failed()
    else:
        breaker.succeeded()
    return found


async def _read(answer: Answer) -> Refusal:
    body = bytearray()
    try:
        async for chunk in answer.chunks():
            body += chunk[: _LARGEST_REFUSAL_BYTES - len(body)]
    except Cut as error:
        logger.warning("a refusal of the model's API was cut: %s", error)
    finally:
        answer.close()
    headers = [(name, value) for name, value in answer.returned_headers if name != b"content-length"]
    return Refusal(answer.status, [*headers, (b"content-length", b"%d" % len(body))], bytes(body))


def _pause_s(number: int, refusal: Refusal | None) -> float:
    """Return how long to wait after attempt `number` (from 0): what the API asks for, or longer and longer."""
    headers = dict(refusal.headers) if refusal else {}
    if headers.get(b"x-should-retry") == b"false":
        return float("inf")
    asked = _seconds(headers.get(b"retry-after-ms"), 1_000) or _seconds(headers.get(b"retry-after"), 1)
    if asked is not None:
        return max(asked, _SHORTEST_PAUSE_S)
    longest = min(_FIRST_PAUSE_S * 2 ** min(number, 10), _LONGEST_PAUSE_S)
    return float(longest * random.uniform(0.5, 1))


def _seconds(value: bytes | None, per_second: int) -> float | None:
    try:
        seconds = float(value) / per_second if value else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 1e6 else None
