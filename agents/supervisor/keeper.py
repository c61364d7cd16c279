"""Keeping leases: one thread per process renews all runs that the process holds, in one statement.

It is also how others reach a supervisor: a request to stop (`Run.stop_requested`), the loss of the lease and the news
that messages wait all arrive here, and are passed on to the run's `Stop`.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import close_old_connections

from agents.actions import leases

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0
LEASE_LOST = "lease_lost"
WORKER_STOPPING = "worker_stopping"


class Stop:
    """A request to end a run, made in one thread and heard in another, by an event loop or by asking.

    `has_mail` is the other news: that its agent's inbox has something that it was not given yet.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.has_mail = threading.Event()
        self._lock = threading.Lock()
        self._listener: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def set(self, reason: str) -> None:
        """Ask. The first reason stays, but a lost lease outdoes any other: nothing may be written any more."""
        with self._lock:
            if self.reason and reason != LEASE_LOST:
                return
            self.reason = reason
            if self._listener:
                loop, event = self._listener
                loop.call_soon_threadsafe(event.set)

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Give the running event loop an event that is set when somebody asks, or asked before."""
        event = asyncio.Event()
        with self._lock:
            self._listener = (asyncio.get_running_loop(), event)
            if self.reason:
                event.set()
        try:
            yield event
        finally:
            with self._lock:
                self._listener = None


class LeaseKeeper:
    """Renews the leases of `owner` every `interval_s`. `on_beat` is called as often, with the time."""

    def __init__(
        self,
        owner: str,
        *,
        clock: Callable[[], datetime],
        on_beat: Callable[[datetime], None],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.owner = owner
        self._interval_s = interval_s
        self._clock = clock
        self._on_beat = on_beat
        self._held: dict[UUID, Stop] = {}
        self._stopping = ""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def close(self) -> None:
        """Stop beating; leases run out by themselves."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    @contextmanager
    def hold(self, run_id: UUID) -> Iterator[Stop]:
        """Keep a run's lease alive for the length of the `with`."""
        stop = Stop()
        with self._lock:
            self._held[run_id] = stop
            if self._stopping:
                stop.set(self._stopping)
        try:
            yield stop
        finally:
            with self._lock:
                self._held.pop(run_id, None)

    def stop_all(self, reason: str) -> int:
        """Ask every run held here to end, now or as soon as it is; return how many there are now.

        From here on leases are still renewed, but nobody is told that this process is well: it takes nothing new.
        """
        with self._lock:
            self._stopping = reason
            held = list(self._held.values())
        for stop in held:
            stop.set(reason)
        return len(held)

    @property
    def held(self) -> int:
        """How many runs are held here now."""
        with self._lock:
            return len(self._held)

    def beat_once(self) -> None:
        """Renew once, and pass on what was asked meanwhile."""
        with self._lock:
            held = dict(self._held)
        now = self._clock()
        if held:
            self._renew(held, now)
        if not self._stopping:
            self._on_beat(now)

    def _renew(self, held: dict[UUID, Stop], now: datetime) -> None:
        kept = leases.renew_leases(list(held), owner=self.owner, now=now)
        for run_id, stop in held.items():
            renewed = kept.get(run_id)
            reason = renewed.stop_requested if renewed else LEASE_LOST
            if renewed and renewed.has_mail:
                stop.has_mail.set()
            # A run that ended a moment ago is not held any more, and has no lease to lose.
            if reason and run_id in self._held:
                stop.set(reason)

    def _beat(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self.beat_once()
            except DatabaseError as error:  # the database restarts: try again, the lease lasts longer than that
                logger.warning("leases not renewed: %s", error)
            except Exception:
                logger.exception("leases not renewed")
            finally:
                close_old_connections()
