"""Emptying the database after a test with real transactions: Django's `flush`, at a fiftieth of its price.

`flush` gives each table and each index new files and makes Django's permissions anew, for tables most of which have
no row. Here only tables with rows are emptied, row by row; what Django's own `migrate` filled stays.
"""

import time
from functools import cache
from typing import Any

from django.db import OperationalError, connection, transaction
from psycopg import sql
from psycopg.errors import LockNotAvailable

# What `migrate` fills for Django: no test changes a row of these.
KEPT = frozenset({"django_content_type", "auth_permission"})
# Beyond it the rows that are dead already cost more than new files: nothing vacuums a test's database.
LARGE_BYTES = 2_000_000
DEADLINE_S = 30.0


def empty_database() -> None:
    """Delete all rows. Whoever is still writing is waited for, without standing in their way."""
    give_up = time.monotonic() + DEADLINE_S
    while not _try_to_empty():
        assert time.monotonic() < give_up, "somebody holds a transaction open that writes: end it with the test"


def _try_to_empty() -> bool:
    """False when somebody writes. All locks are let go then: they may need one to come to their end."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")  # past triggers and foreign keys
            cursor.execute("SET LOCAL lock_timeout = '50ms'")
            cursor.execute(_lock())
            cursor.execute(_look())
            _delete(cursor, cursor.fetchall())
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            return False
        raise
    return True


def _delete(cursor: Any, tables: list[tuple[str, bool]]) -> None:
    for table, is_large in tables:
        if not is_large:
            cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
    if large := [sql.Identifier(table) for table, is_large in tables if is_large]:
        cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(large)))


@cache
def _tables() -> tuple[str, ...]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return tuple(sorted(set(names) - KEPT))


@cache
def _lock() -> sql.Composed:
    return sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.SQL(", ").join(map(sql.Identifier, _tables())))


@cache
def _look() -> sql.Composed:
    """Which tables have rows, and which have become large."""
    one = sql.SQL(
        "SELECT {name}, pg_relation_size({name}) > {limit}"
        " WHERE CASE WHEN pg_relation_size({name}) > {limit} THEN true ELSE EXISTS (SELECT FROM {table}) END"
    )
    each = [
        one.format(name=sql.Literal(table), table=sql.Identifier(table), limit=sql.Literal(LARGE_BYTES))
        for table in _tables()
    ]
    return sql.SQL(" UNION ALL ").join(each)
