"""Transcripts lie in one partition for each week, by the id of their run, which begins with the time it was made.

A partition `agents_runevent_20261116` has the runs of the week that begins on that Monday at midnight UTC; the oldest
has all before it too. What belongs to no week yet lies in the default one and is moved when its week is made. The
functions in the database are in `migrations/_sql.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from psycopg import sql

from agents.models import RunEvent

TABLE = RunEvent._meta.db_table
AHEAD = 8
"""Weeks that are made ahead: so long beat may be away."""
_WEEK = timedelta(days=7)
# Whoever reads or writes a transcript is let through; beat tries again in an hour.
_LOCK_TIMEOUT = "3s"


@dataclass(frozen=True)
class Partition:
    """The transcripts of a week's runs."""

    name: str
    begins_at: datetime

    @property
    def ends_at(self) -> datetime:
        """When the next week begins."""
        return self.begins_at + _WEEK

    @property
    def end(self) -> UUID:
        """The id that all of its runs are below."""
        return UUID(int=(int(self.ends_at.timestamp() * 1000) << 80))


def partitions() -> list[Partition]:
    """Return the weeks that are there, oldest first. The default partition is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = %s::regclass AND relname ~ '_[0-9]{8}$' ORDER BY relname",
            [TABLE],
        )
        names = [name for (name,) in cursor.fetchall()]
    return [Partition(name, datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC)) for name in names]


def make_ahead(now: datetime) -> list[str]:
    """Make the partitions of this week and the next AHEAD ones, and return the new ones. Any database user may."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT run_events_make_partitions(%s, %s)", [now, AHEAD])
        return [name for (name,) in cursor.fetchall()]


def may_drop() -> bool:
    """Whether this database user owns the transcripts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_has_role(relowner, 'MEMBER') FROM pg_class WHERE oid = %s::regclass", [TABLE])
        (owns,) = cursor.fetchone()
    return bool(owns)


def count(partition: Partition) -> int:
    """Return how many lines it has."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(partition.name)))
        (lines,) = cursor.fetchone()
    return int(lines)


def drop(partition: Partition) -> None:
    """Drop a week with all that was said in it. In a transaction; raises OperationalError when it is in use."""
    with _briefly(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))


@contextmanager
def _briefly() -> Iterator[None]:
    """Wait for locks for a moment only: behind whoever waits for a table, everybody waits."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        yield
        cursor.execute("SET LOCAL lock_timeout = DEFAULT")
