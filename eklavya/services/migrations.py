"""How far a database is behind the code, without starting another Django for the answer."""

import psycopg
from django.db.migrations.loader import MigrationLoader


def unapplied(url: str) -> int:
    """Number of migrations that the database lacks. Django must be set up."""
    wanted = set(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)
    try:
        with psycopg.connect(url) as database:
            applied = set(database.execute("SELECT app, name FROM django_migrations"))
    except psycopg.errors.UndefinedTable:
        applied = set()
    return len(wanted - applied)
