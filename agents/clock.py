"""The time that all workers share: the database's. A machine whose clock is wrong would end the leases of others."""

import threading
import time
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

# Less than this is the way to the server and back, or what time servers leave.
NOISE = timedelta(seconds=1)


class HouseClock:
    """This machine's clock, set right by the database's whenever they are compared.

    A machine's clock that is moved in between is noticed by the time since it started, which nobody can move.
    """

    def __init__(self) -> None:
        self.offset = timedelta(0)
        self._lock = threading.Lock()
        self._last = self._both()

    def __call__(self) -> datetime:
        with self._lock:
            before, self._last = self._last, self._both()
            moved = (self._last[0] - before[0]) - (self._last[1] - before[1])
            if abs(moved) > NOISE:
                self.offset -= moved
            return self._last[0] + self.offset

    def compare(self) -> timedelta:
        """Ask the database for the time; return by how much this machine's clock is behind."""
        asked = self._both()
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (there,) = cursor.fetchone()
        with self._lock:
            self._last = self._both()
            behind: timedelta = there - (self._last[0] - (self._last[1] - asked[1]) / 2)
            self.offset = behind if abs(behind) > NOISE else timedelta(0)
        return behind

    @staticmethod
    def _both() -> tuple[datetime, timedelta]:
        return timezone.now(), timedelta(seconds=time.monotonic())


house_now = HouseClock()
