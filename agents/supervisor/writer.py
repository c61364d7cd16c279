"""The transcripts of all runs of a process on their way into the database: one thread stores what was said together.

A run's lines wait in its `Record`, in order, until they are stored. What waits is bounded: who listens to an agent
waits for room, so that a database that does not answer holds the agents up instead of filling the memory. A run that
lost its lease, or whose lines cannot be stored, stops alone (docs/adr/0015-one-writer-of-transcripts.md).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache

from django.db import close_old_connections, connection

from agents.actions import transcript
from agents.actions.transcript import Line, Said
from agents.models import Run
from agents.supervisor.connections import AWAY, LOOK_AGAIN_S, PATIENCE_S
from agents.supervisor.keeper import LEASE_LOST, Stop

logger = logging.getLogger(__name__)

# A line waits for the others for so long, or until there are so many.
AGE_S = 0.6
MANY_LINES = 500
# What a transaction takes of one run, and what may wait of it. Of characters a little more: a line is not divided.
MOST_LINES = 200
MOST_CHARS = 2_000_000
_BATCH_CHARS = 8_000_000
# A run's row is somebody else's for milliseconds.
_BUSY_S = 0.05


class Record:
    """The lines of one run that are not stored yet. Its methods belong to the run's event loop."""

    def __init__(self, writer: "Writer", run: Run, stop: Stop) -> None:
        self.run = run
        self.failure: Exception | None = None
        self._writer = writer
        self._stop = stop
        self._lines: list[Line] = []
        self._chars = 0
        self._is_lost = False
        self._away_since: float | None = None
        self._lock = threading.Lock()
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def add(self, lines: Iterable[Line]) -> None:
        """Have lines stored soon. Those of a run whose lease is lost are dropped: nothing may be written any more."""
        added = list(lines)
        if not added or self.is_lost:
            return
        with self._lock:
            self._lines.extend(added)
            self._chars += sum(map(_size, added))
        self._writer.note(self, len(added))

    @property
    def is_lost(self) -> bool:
        """Whether the run is not ours any more."""
        return self._is_lost or self._stop.reason == LEASE_LOST

    @property
    def is_full(self) -> bool:
        """Whether more must not be taken now, or the run's lines cannot be stored: ask `room`."""
        return self.failure is not None or len(self._lines) >= MOST_LINES or self._chars >= MOST_CHARS

    async def room(self) -> None:
        """Wait until more may be taken. Raises what the run's lines could not be stored for."""
        self._writer.hurry()
        await self._until(lambda: not self.is_full)

    async def stored(self) -> None:
        """Have all lines stored now, and wait for it. Raises what they could not be stored for."""
        self._writer.hurry()
        await self._until(lambda: not self._lines)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        listener = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._listeners.append(listener)
        try:
            while not self.is_lost:
                if self.failure is not None:
                    raise self.failure
                if is_so():
                    return
                listener[1].clear()
                # Looked at now and then too: the lease may be lost without the writer.
                with suppress(TimeoutError):
                    await asyncio.wait_for(listener[1].wait(), LOOK_AGAIN_S)
        finally:
            with self._lock:
                self._listeners.remove(listener)

    # -- for the writer's thread

    @property
    def has_lines(self) -> bool:
        """Whether something waits that is still to be stored."""
        return bool(self._lines) and not self.is_lost and self.failure is None

    def next_lines(self) -> tuple[list[Line], int]:
        """Return the lines that are to be stored next, and how many characters they have."""
        with self._lock:
            if self.is_lost or self.failure is not None:
                self._lines.clear()
                self._chars = 0
            taken, chars = [], 0
            for line in self._lines[:MOST_LINES]:
                taken.append(line)
                chars += _size(line)
                if chars >= MOST_CHARS:
                    break
            return taken, chars

    def took(self, lines: Sequence[Line]) -> None:
        """Forget lines that are stored."""
        with self._lock:
            del self._lines[: len(lines)]
            self._chars -= sum(map(_size, lines))
            self._away_since = None
            is_more = len(lines) >= MOST_LINES and bool(self._lines)
        if is_more:
            self._writer.hurry()
        self._tell()

    def lose(self) -> None:
        """End the run: it is not ours any more."""
        self._is_lost = True
        self._stop.set(LEASE_LOST)
        self._tell()

    def fail(self, error: Exception) -> None:
        """Give up storing the run's lines; who listens to its agent is told."""
        self.failure = error
        self._tell()

    def away(self, error: Exception) -> None:
        """Note that the database did not answer; give up after a while."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > PATIENCE_S:
            self.fail(error)

    def _tell(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for loop, moved in listeners:
            with suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(moved.set)


_Batched = tuple[Record, list[Line]]


class Writer:
    """The thread that stores them. It begins with the first line, and waits without waking while there is none."""

    def __init__(self) -> None:
        self._waiting: dict[Record, None] = {}
        self._count = 0
        self._due = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def record(self, run: Run, stop: Stop) -> Record:
        """Return the way into the database for a run that is held here. `stop` is told when it is lost."""
        return Record(self, run, stop)

    def note(self, record: Record, lines: int) -> None:
        """Hear that a record has more lines."""
        with self._changed:
            was_idle = not self._waiting
            self._waiting[record] = None
            self._count += lines
            if was_idle:
                self._due = time.monotonic() + AGE_S
            if was_idle or self._count >= MANY_LINES > self._count - lines:
                self._changed.notify()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="transcripts", daemon=True)
                self._thread.start()

    def hurry(self) -> None:
        """Store what waits without waiting for more."""
        with self._changed:
            self._due = 0.0
            self._changed.notify()

    def _work(self) -> None:
        while True:
            try:
                self._round()
            except Exception:  # nobody else would store what waits
                logger.exception("transcripts were not stored")
                time.sleep(LOOK_AGAIN_S)

    def _round(self) -> None:
        batch = self._next()
        try:
            again_s = self._store([said for said in batch if said[1]])
        finally:
            close_old_connections()
        self._keep([record for record, _ in batch], again_s)

    def _next(self) -> list[_Batched]:
        """Wait until there is enough, or something has waited for long enough; return it: what waits longest first."""
        with self._changed:
            while not self._waiting or (self._count < MANY_LINES and time.monotonic() < self._due):
                self._changed.wait(max(self._due - time.monotonic(), 0.0) if self._waiting else None)
            records = list(self._waiting)
            self._count = 0
            self._due = time.monotonic() + AGE_S
        batch, total = [], 0
        for record in records:
            lines, chars = record.next_lines()
            batch.append((record, lines))
            total += chars
            if total >= _BATCH_CHARS:
                self.hurry()
                break
        return batch

    def _keep(self, records: Sequence[Record], again_s: float) -> None:
        """Forget records of which everything is stored; those of which something is not come after the others."""
        if again_s >= LOOK_AGAIN_S:
            time.sleep(again_s)
        with self._changed:
            for record in records:
                self._waiting.pop(record, None)
            self._waiting.update(dict.fromkeys(record for record in records if record.has_lines))
            if again_s:
                self._due = min(self._due, time.monotonic() + again_s)

    def _store(self, batch: Sequence[_Batched]) -> float:
        """Store a batch. Return after how many seconds something of it is to be tried again; 0: nothing is."""
        if not batch:
            return 0.0
        try:
            left_out = transcript.record_together([Said(record.run, lines) for record, lines in batch])
        except AWAY as error:
            if len(batch) > 1 and connection.is_usable():
                return max(self._store([one]) for one in batch)
            logger.warning("the database does not answer: %s", error)
            for record, _ in batch:
                record.away(error)
            return LOOK_AGAIN_S
        except Exception as error:
            if len(batch) > 1:  # one of them is broken: it must not take the others along
                return max(self._store([one]) for one in batch)
            logger.exception("the lines of run %s cannot be stored", batch[0][0].run.pk)
            batch[0][0].fail(error)
            return 0.0
        for record, lines in batch:
            if record.run.pk in left_out.lost:
                record.lose()
            elif record.run.pk not in left_out.busy:
                record.took(lines)
        return _BUSY_S if left_out.busy else 0.0


@cache
def writer() -> Writer:
    """Return this process's writer."""
    return Writer()


def _size(line: Line) -> int:
    """Return about how many characters a line has."""
    return sum(len(value) if isinstance(value, str) else len(str(value)) for value in line.payload.values())
