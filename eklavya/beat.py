"""The periodic work's scheduler: of all beats that run, one sends, the others stand by.

`celery -A eklavya beat` uses it. The schedule is in the database (`manage.py setup`), and so is the lock that says who
sends: an advisory lock of PostgreSQL, which goes with the session that holds it. A beat that was killed is followed at
the next look of another. One that was stopped, or cut off, keeps its session: the server ends it after IDLE_S, as a
beat that works asks at each tick. Should two ever send, nothing is done twice: each periodic task may come at any time.
"""

import logging
from datetime import timedelta
from typing import Any

import psycopg
from django.db import connection as django_connection
from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler

logger = logging.getLogger(__name__)

# Any constant: the id of the advisory lock of whoever sends.
LOCK_ID = 0x656B_6C62
# How often a beat that stands by looks.
STAND_BY_S = 2.0
# The longest silence of the one that sends; longer than any tick (CELERY_BEAT_MAX_LOOP_INTERVAL).
IDLE_S = 20
# Clocks of machines that are in order agree better than this.
AHEAD = timedelta(seconds=5)
_DJANGOS_OWN = {"context", "cursor_factory", "prepare_threshold", "pool", "server_side_binding", "autocommit"}


class SoleLock:
    """An advisory lock on a connection of its own: Django's go back to a pool, and a lock would go with them."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._is_held = False

    def is_held(self) -> bool:
        """Whether this process holds the lock now; tries to get it where it does not. Asks the server each time."""
        try:
            return self._ask()
        except psycopg.Error as error:
            logger.warning("beat does not know whether it is the one that sends: %s", error)
            self.close()
            return False

    def close(self) -> None:
        """Let go of the lock."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._is_held = None, False

    def _ask(self) -> bool:
        if self._connection is None:
            given = django_connection.get_connection_params()
            kept = {name: value for name, value in given.items() if name not in _DJANGOS_OWN}
            self._connection = psycopg.connect(**kept, autocommit=True)
            self._connection.execute(f"SET idle_session_timeout = '{IDLE_S}s'")
        if self._is_held:
            self._connection.execute("SELECT 1")  # raises when the server ended the session, and with it the lock
        else:
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_ID]).fetchone()
            self._is_held = bool(row and row[0])
        return self._is_held


class SoleScheduler(DatabaseScheduler):  # type: ignore[misc]  # the library has no types
    """Sends only while it holds the lock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = SoleLock()
        self._is_sending = False
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, one message a call; return the seconds until the next call."""
        if not self._lock.is_held():
            if self._is_sending:
                logger.warning("beat stands by: it lost its lock")
            self._is_sending = False
            return STAND_BY_S
        if not self._is_sending:
            logger.info("beat sends: it holds the lock")
            self._is_sending = True
            self._read_again()
        self._mend_times()
        return float(super().tick(*args, **kwargs))

    def close(self) -> None:
        """Write down what was sent when, and let another beat follow at once."""
        super().close()
        self._lock.close()

    def _mend_times(self) -> None:
        """Take as sent now what a beat sent whose clock was ahead, this one's own perhaps: else nothing would be sent
        until that time has come."""
        now = timezone.now()
        for entry in (self._schedule or {}).values():
            if entry.last_run_at > now + AHEAD:
                logger.warning("%s was sent at %s, which is yet to come", entry.name, entry.last_run_at)
                entry.last_run_at = entry.model.last_run_at = now
                self._heap = None

    def _read_again(self) -> None:
        """Forget when things were sent last: another beat sent them since."""
        self._dirty.clear()
        self._schedule, self._heap, self._initial_read = None, None, True
