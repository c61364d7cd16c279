"""The time that all workers share: the database's. A machine whose clock is wrong would end the leases of others."""

from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

# Less than this is the way to the server and back, or what time servers leave.
NOISE = timedelta(seconds=1)


class HouseClock:
    """This machine's clock, set right by the database's whenever they are compared."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def __call__(self) -> datetime:
        return timezone.now() + self.offset

    def compare(self) -> timedelta:
        """Ask the database for the time; return by how much this machine's clock is behind."""
        asked = timezone.now()
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (there,) = cursor.fetchone()
        behind: timedelta = there - (asked + (timezone.now() - asked) / 2)
        self.offset = behind if abs(behind) > NOISE else timedelta(0)
        return behind


house_now = HouseClock()
