"""A batch of claimed nodes while it is worked on: what is done, and what is not begun. Two threads may look at it."""

import threading
import time
from collections import deque
from collections.abc import Iterable

from projects.workflows.work import Claimed, Outcome


class Slice:
    """Begun by `begin_next`, ended by `note`, taken out by `take`: each outcome and each node by one taker alone."""

    def __init__(self, batch: Iterable[Claimed] = ()) -> None:
        self._lock = threading.Lock()
        self._rest = deque(batch)
        self._outcomes: list[Outcome] = []
        self._begun_at: float | None = None
        self._limit_s = 0

    def begin_next(self) -> Claimed | None:
        """Return the next node to work on, if one is left."""
        with self._lock:
            if not self._rest:
                return None
            self._begun_at = time.monotonic()
            node = self._rest.popleft()
            self._limit_s = node.plan.nodes[node.position].timeout_s
            return node

    def note(self, outcome: Outcome) -> None:
        """Keep what the node at work led to."""
        with self._lock:
            self._outcomes.append(outcome)
            self._begun_at = None

    def take(self) -> tuple[list[Outcome], list[Claimed]]:
        """Return what is done and what was not begun, and keep neither."""
        with self._lock:
            taken = self._outcomes, list(self._rest)
            self._outcomes, self._rest = [], deque()
            return taken

    def is_stuck(self, limit_s: float) -> bool:
        """Whether one node takes longer than this while others wait, to be written or to be begun."""
        with self._lock:
            waiting = self._outcomes or self._rest
            return bool(waiting) and self._begun_at is not None and time.monotonic() - self._begun_at > limit_s

    def is_overdue(self) -> bool:
        """Whether the node at work takes longer than it may: others have taken it for lost by now."""
        with self._lock:
            return self._begun_at is not None and time.monotonic() - self._begun_at > self._limit_s
