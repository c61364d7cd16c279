"""What the application's own database user may do: everything but rewrite history.

The triggers refuse that to whoever forgets; a role without the privilege cannot switch them off either. Only the owner
of the tables, who migrates and is nobody at run time, can. Grants are of tables that are there: apply them after each
`migrate`; a table that was forgotten cannot be used at all, which is seen at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from django.apps import apps
from django.db import connection, transaction
from psycopg import sql

from projects.models import AuditChain
from projects.models.audit import append_only

SCHEMA = "public"
# Which migrations ran is the owner's to say.
_READ_ONLY = ("django_migrations",)


class RoleProblem(Exception):
    """This role cannot be the application's. The message says why and what to do."""


@dataclass(frozen=True)
class _Found:
    is_superuser: bool
    may_make_roles: bool
    may_replicate: bool
    is_owner: bool
    bypasses: bool


def append_only_tables() -> list[str]:
    """Return the tables that only grow: those with the triggers of `append_only`."""
    (of_rows, *_) = append_only("")
    return sorted(
        model._meta.db_table
        for model in apps.get_models()
        if any(trigger.name.endswith(of_rows.name) for trigger in getattr(model._meta, "triggers", ()))
    )


def _partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relnamespace = %s::regnamespace"
            " ORDER BY relname",
            [SCHEMA],
        )
        return [name for (name,) in cursor.fetchall()]


def statements(role: str) -> Iterator[sql.Composed]:
    """Yield what gives a role its rights, and takes away all others that it had in this schema. Idempotent."""
    to, schema = sql.Identifier(role), sql.Identifier(SCHEMA)

    def of(text: str, *tables: str) -> sql.Composed:
        names = sql.SQL(", ").join(sql.Identifier(SCHEMA, table) for table in tables)
        return sql.SQL(text).format(role=to, schema=schema, tables=names)

    yield of("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {role}")
    yield of("GRANT USAGE ON SCHEMA {schema} TO {role}")
    yield of("REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC, {role}")
    yield of("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")
    # What is asked of a partitioned table needs no right on its partitions.
    if partitions := _partitions():
        yield of("REVOKE ALL ON {tables} FROM {role}", *partitions)
    yield of("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
    yield of("REVOKE UPDATE, DELETE ON {tables} FROM {role}", *append_only_tables())
    yield of("REVOKE DELETE ON {tables} FROM {role}", AuditChain._meta.db_table)
    yield of("REVOKE INSERT, UPDATE, DELETE ON {tables} FROM {role}", *_READ_ONLY)


def script(role: str) -> str:
    """Return the statements as text for psql, in one transaction."""
    connection.ensure_connection()
    lines = [f"{one.as_string(connection.connection)};" for one in statements(role)]
    return "\n".join(["BEGIN;", *lines, "COMMIT;"])


def apply(role: str) -> None:
    """Give a role its rights. Raises RoleProblem, with nothing changed, for one that cannot be held to them."""
    with transaction.atomic(), connection.cursor() as cursor:
        _check(role)
        for one in statements(role):
            cursor.execute(one)


def _check(role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT r.rolsuper, r.rolcreaterole, r.rolreplication,
                EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND pg_has_role(r.oid, c.relowner, 'MEMBER')),
                EXISTS (SELECT FROM pg_roles p WHERE p.rolname IN ('pg_write_all_data', 'pg_maintain',
                    'pg_execute_server_program', 'pg_write_server_files') AND pg_has_role(r.oid, p.oid, 'MEMBER'))
            FROM pg_roles r WHERE r.rolname = %s
            """,
            [SCHEMA, role],
        )
        row = cursor.fetchone()
    if row is None:
        raise RoleProblem(f"There is no role “{role}”: make it first, CREATE ROLE {role} LOGIN PASSWORD '…'.")
    found = _Found(*row)
    if found.is_superuser or found.may_make_roles or found.may_replicate:
        raise RoleProblem(f"“{role}” is a superuser, or may make roles or replicate: such a role is held by nothing.")
    if found.is_owner:
        raise RoleProblem(f"“{role}” owns tables, or is a member of who does: let another role run the migrations.")
    if found.bypasses:
        raise RoleProblem(
            f"“{role}” may write everything by a role of PostgreSQL's own (pg_write_all_data …): revoke it."
        )
