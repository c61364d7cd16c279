"""Dead rows and the planner's statistics, of every table: what autovacuum has not got to, beat looks after.

Autovacuum comes when a share of a table has changed (`migrations/_sql.py` says which), unless it is switched off, too
busy, or cancelled by locks again and again; and of a partitioned table as a whole it never makes statistics. What is
due is read from the server's own counters, so nothing is kept here, and nothing is done where nothing changed.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import connection as django_connection
from psycopg import sql

logger = logging.getLogger(__name__)

# Below it no share counts: such a table is read as a whole anyway.
LEAST_ROWS = 1_000
# Half of what autovacuum waits for where a table says nothing of its own.
SHARE = 0.1
# A partitioned table's statistics may be so much older than those of its partitions.
PARENT_LAGS = timedelta(days=1)
# Whoever changes a table's shape is let through; the next look tries again.
LOCK_TIMEOUT_S = 3
# Of one table, and of one look: a job for light work.
TABLE_S, LOOK_S = 300, 600
# Any constant: the id of the advisory lock of whoever looks.
_LOCK_ID = 0x656B_7661
_DJANGOS_OWN = {"context", "cursor_factory", "prepare_threshold", "pool", "server_side_binding", "autocommit"}

# Partitions are rows of their own; of a partitioned table the server counts nothing but when it was analysed.
_TABLES = """
SELECT s.relname, c.relkind = 'p', pg_has_role(c.relowner, 'MEMBER'),
    coalesce(p.live, s.n_live_tup), s.n_dead_tup, s.n_mod_since_analyze, s.n_ins_since_vacuum,
    greatest(s.last_vacuum, s.last_autovacuum), greatest(s.last_analyze, s.last_autoanalyze), p.analyzed_at
FROM pg_stat_all_tables s
JOIN pg_class c ON c.oid = s.relid
LEFT JOIN LATERAL (
    SELECT sum(of.n_live_tup)::bigint AS live, max(greatest(of.last_analyze, of.last_autoanalyze)) AS analyzed_at
    FROM pg_inherits JOIN pg_stat_all_tables of ON of.relid = inhrelid WHERE inhparent = c.oid AND c.relkind = 'p'
) p ON c.relkind = 'p'
WHERE s.schemaname = current_schema() AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
ORDER BY s.n_dead_tup + s.n_mod_since_analyze DESC, s.relname
"""


@dataclass(frozen=True)
class Table:
    """What the server has counted of a table; of a partitioned one its partitions' rows. Rows are estimates."""

    name: str
    is_partitioned: bool
    is_ours: bool
    live: int
    dead: int
    changed: int
    inserted: int
    vacuumed_at: datetime | None
    analyzed_at: datetime | None
    parts_analyzed_at: datetime | None

    @property
    def needs_vacuum(self) -> bool:
        """Whether so much died in it, or came, that a share of what is read is not looked after."""
        return not self.is_partitioned and max(self.dead, self.inserted) > self._due

    @property
    def needs_analyze(self) -> bool:
        """Whether the planner may be wrong about it."""
        if not self.is_partitioned:
            return self.changed > self._due
        if self.live <= LEAST_ROWS:
            return False
        if self.analyzed_at is None:
            return True
        return self.parts_analyzed_at is not None and self.parts_analyzed_at > self.analyzed_at + PARENT_LAGS

    @property
    def is_overdue(self) -> bool:
        """Whether a look would do something about it."""
        return self.needs_vacuum or self.needs_analyze

    @property
    def _due(self) -> float:
        return LEAST_ROWS + SHARE * self.live


@dataclass(frozen=True)
class Done:
    """What a look did to a table, or why it could not."""

    table: str
    verb: str
    problem: str = ""


def tables() -> list[Table]:
    """Return what is counted of each table, those with most changes first. One statement."""
    with django_connection.cursor() as cursor:
        cursor.execute(_TABLES)
        return [Table(*row) for row in cursor.fetchall()]


def overdue() -> list[Table]:
    """Return the tables that a look would do something about."""
    return [table for table in tables() if table.is_overdue]


def look_after() -> list[Done]:
    """Vacuum and analyse what is overdue, and return what was done.

    Bounded: LOCK_TIMEOUT_S for a lock, TABLE_S for a table, LOOK_S altogether; what is left waits for the next look.
    Only whoever owns a table may: others are told. Returns nothing while another looks. Outside of a transaction.
    """
    assert not django_connection.in_atomic_block, "VACUUM is refused in a transaction"
    give_up = time.monotonic() + LOOK_S
    done: list[Done] = []
    with _alone() as session:
        # Asked in that session: whose tables they are, too.
        found = [Table(*row) for row in session.execute(_TABLES)] if session else []
        for table in found:
            if session is not None and table.is_overdue:
                done.append(_look_after(session, table, min(TABLE_S, give_up - time.monotonic())))
    for one in done:
        log = logger.warning if one.problem else logger.info
        log("%s of table %s%s", one.verb, one.table, f": {one.problem}" if one.problem else "")
    return done


def _look_after(session: "psycopg.Connection[Any]", table: Table, seconds: float) -> Done:
    if seconds <= 0:
        return Done(table.name, "left", "there was no time left")
    if not table.is_ours:  # PostgreSQL would only warn
        return Done(table.name, "left", "another database user owns it: run manage.py upkeep as that one")
    # No truncation: that alone would lock readers out.
    verb, text = ("vacuum", "VACUUM (ANALYZE, TRUNCATE FALSE) {}") if table.needs_vacuum else ("analyze", "ANALYZE {}")
    try:
        session.execute(f"SET statement_timeout = '{max(int(seconds * 1000), 1)}ms'")  # 0 would be none
        session.execute(sql.SQL(text).format(sql.Identifier(table.name)))
    except psycopg.errors.LockNotAvailable:
        return Done(table.name, verb, "it is locked")
    except psycopg.errors.QueryCanceled:
        return Done(table.name, verb, f"not done within {seconds:.0f} s")
    except psycopg.errors.UndefinedTable:
        return Done(table.name, verb, "it was dropped meanwhile")
    except psycopg.Error as error:  # a broken index, a full disk, a deadlock: the tables behind it have their turn
        if session.closed:
            raise
        return Done(table.name, verb, error.diag.message_primary or str(error))
    return Done(table.name, verb)


@contextmanager
def _alone() -> "Iterator[psycopg.Connection[Any] | None]":
    """Give a session of its own, which takes its limits with it when it ends; None while another one looks."""
    given = django_connection.get_connection_params()
    kept = {name: value for name, value in given.items() if name not in _DJANGOS_OWN}
    with psycopg.connect(**kept, autocommit=True) as session:
        session.execute(f"SET lock_timeout = '{int(LOCK_TIMEOUT_S * 1000)}ms'")
        row = session.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK_ID]).fetchone()
        yield session if row and row[0] else None
