"""How far a database is behind the code, without starting another Django for the answer."""

import psycopg
from django.db.migrations.loader import MigrationLoader

from eklavya.services.errors import ServiceError


def unapplied(url: str) -> int:
    """Number of migrations that the database lacks. Django must be set up. Raises ServiceError when refused.

    Of a squashed migration and the files that it replaces one way is counted: the one that `migrate` takes
    (docs/adr/0018-squashed-migrations.md). Where all of the files ran, the squashed one is still to be recorded.
    """
    loader = MigrationLoader(None, ignore_no_migrations=True)
    wanted = set(loader.disk_migrations)
    try:
        with psycopg.connect(url) as database:
            applied = set(database.execute("SELECT app, name FROM django_migrations"))
    except psycopg.errors.UndefinedTable:
        applied = set()
    except psycopg.errors.InsufficientPrivilege:
        raise ServiceError(
            f"{_who(url)} may not read the tables of its database: let their owner run `manage.py database_roles` "
            "(docs/operations.md), or name the owner in DATABASE_URL"
        ) from None
    for squashed, migration in loader.replacements.items():
        replaced = set(migration.replaces)
        if applied.isdisjoint(replaced):
            wanted -= replaced
        elif not replaced <= applied:
            wanted.discard(squashed)
    return len(wanted - applied)


def check_rights(url: str) -> None:
    """Raise ServiceError unless this role may make tables, which migrations have to."""
    with psycopg.connect(url) as database:
        found = database.execute(
            "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), current_user, current_database()"
        ).fetchone()
    assert found
    may_create, role, name = found
    if not may_create:
        raise ServiceError(
            f'{_who(url)} may not make tables: let a superuser run `ALTER DATABASE "{name}" OWNER TO "{role}"`, '
            "or name the owner of the database in DATABASE_URL"
        )


def _who(url: str) -> str:
    user = psycopg.conninfo.conninfo_to_dict(url).get("user")
    return f"the role “{user}” of DATABASE_URL" if user else "the role of DATABASE_URL"
