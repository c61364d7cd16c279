"""How much one run may ask of the gateway at a time, so that it cannot crowd out the others."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from agents.gateway.api_errors import ApiError

_MOST_REMEMBERED = 1_000


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


class Buckets:
    """A bucket of tokens for each run: `burst` at once, and `a_minute` in the long run. Each request takes one."""

    def __init__(self, a_minute: int, *, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute = a_minute
        self._burst = burst
        self._clock = clock
        self._levels: dict[UUID, tuple[float, float]] = {}

    def take(self, run_id: UUID) -> float:
        """Take one; return 0, or for how many seconds the bucket is still empty (then nothing was taken)."""
        now = self._clock()
        level, since = self._levels.get(run_id, (float(self._burst), now))
        level = min(self._burst, level + (now - since) * self.a_minute / 60)
        if level < 1:
            self._levels[run_id] = (level, now)
            return (1 - level) * 60 / self.a_minute
        self._levels[run_id] = (level - 1, now)
        self._forget_full(now)
        return 0

    def _forget_full(self, now: float) -> None:
        """A run that was quiet for long has a full bucket, which is what a new one has too."""
        if len(self._levels) > _MOST_REMEMBERED:
            full_after = self._burst * 60 / self.a_minute
            self._levels = {run: one for run, one in self._levels.items() if one[1] + full_after > now}
