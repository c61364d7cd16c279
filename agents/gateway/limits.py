"""How much one run may ask of the gateway at a time, so that it cannot crowd out the others."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from agents.gateway.api_errors import ApiError


class Places:
    """How many requests of each run are under way in this process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[UUID] = Counter()

    @contextmanager
    def take(self, run_id: UUID) -> Iterator[int]:
        """Count a request in, and yield how many there are now. Raises ApiError when there are too many."""
        if self._taken[run_id] >= self._most:
            raise ApiError("rate_limit_error", f"At most {self._most} requests at a time.", retry_after_s=1)
        self._taken[run_id] += 1
        try:
            yield self._taken[run_id]
        finally:
            self._taken[run_id] -= 1
            if not self._taken[run_id]:
                del self._taken[run_id]


class Pace:
    """How many requests of each run came in the present minute."""

    def __init__(self, most_a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most_a_minute
        self._clock = clock
        self._minute = 0
        self._counts: Counter[UUID] = Counter()

    def count(self, run_id: UUID) -> None:
        """Count a request. Raises ApiError when the run has had its share of this minute."""
        now = self._clock()
        if self._minute != now // 60:
            self._minute = int(now // 60)
            self._counts.clear()
        self._counts[run_id] += 1
        if self._counts[run_id] > self._most:
            wait = 60 - int(now % 60)
            raise ApiError("rate_limit_error", f"At most {self._most} requests a minute.", retry_after_s=wait)
