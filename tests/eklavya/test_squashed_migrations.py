"""What the squashed migrations make is what the files that they replace made, and databases of those go on."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_django import DjangoDbBlocker

from eklavya import database_roles
from eklavya.services.migrations import unapplied
from eklavya.services.postgres import BINARIES
from eklavya.services.testing import Services
from tests.copying import migrated_database

# An installation of the time before the squash that was not started for a while.
HALF = [
    ("accounts", "0001_accounts"),
    ("agents", "0010_upkeep_of_hot_tables"),  # and with it what it depends on of projects and billing
    ("demos", "0001_initial"),
    ("learning", "0001_initial"),
]
WEEK = re.compile(r"agents_runevent_(\d{8})")
# Of a trigger that one of the old files removes: the library leaves its function behind.
LEFT = "pgtrigger_execution_log_no_change_62a3e"
BOUND = re.compile(r"'([0-9a-f]{12})-0000-0000-0000-000000000000'")


@dataclass(frozen=True)
class Databases:
    """Two of this module's own, one as the old files make it and one as the squashed ones do."""

    old: str
    new: str
    went_on: str
    """What `migrate` said when it met the old one half made."""


def squashes() -> dict[tuple[str, str], set[tuple[str, str]]]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return {name: set(migration.replaces) for name, migration in loader.replacements.items()}


@contextmanager
def using(name: str) -> Iterator[None]:
    """Have `connection` lead to that database."""
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", name)
        yield
        connection.close()


def migrate() -> str:
    out = StringIO()
    call_command("migrate", stdout=out, no_color=True)
    return out.getvalue()


def migrate_half() -> None:
    """As the code of that time did, which had no squashed files."""
    executor = MigrationExecutor(connection)
    executor.loader.replace_migrations = False
    executor.loader.build_graph()
    executor.migrate(HALF)


@pytest.fixture(scope="module")
def databases(django_db_blocker: DjangoDbBlocker, services: Services) -> Iterator[Databases]:
    old, new, role = "squashed_old", "squashed_new", "squashed_role"
    names = [sql.Identifier(name) for name in (old, new)]
    with (
        django_db_blocker.unblock(),
        psycopg.connect(services.database_url, dbname="postgres", autocommit=True) as server,
    ):
        template = sql.Identifier(migrated_database(Path(os.environ["EKLAVYA_TEST_BASE"])))
        server.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        server.execute(sql.SQL("CREATE DATABASE {}").format(names[0]))
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(names[1], template))
        with using(old):
            migrate_half()
            went_on = migrate()
            database_roles.apply(role)
        with using(new):
            database_roles.apply(role)
        yield Databases(old, new, went_on)
        for name in names:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def rows(services: Services, name: str, query: str) -> list[Any]:
    with psycopg.connect(services.database_url, dbname=name) as database:
        return database.execute(query).fetchall()


def schema(services: Services, name: str) -> list[str]:
    """All statements that would make the database, with rights, whatever the order of columns and of statements."""
    url = make_conninfo(services.database_url, dbname=name)
    command = [str(BINARIES / "pg_dump"), "--schema-only", f"--dbname={url}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    # Weeks are counted from the first: between the two databases may lie a midnight of Sunday.
    for pattern, marker in ((WEEK, "agents_runevent_week_{}"), (BOUND, "'bound {}'")):
        order = sorted(set(pattern.findall(text)))
        text = pattern.sub(lambda found: marker.format(order.index(found[1])), text)  # noqa: B023
    text = re.sub(r"^(--.*|\\(un)?restrict .*|SET .*|SELECT pg_catalog\.set_config.*)$", "", text, flags=re.MULTILINE)
    return sorted(map(_without_order, re.split(r";\n\n", text)))


def _without_order(statement: str) -> str:
    lines = [line.rstrip(",") for line in statement.strip().splitlines()]
    return "\n".join([lines[0], *sorted(lines[1:])] if statement.lstrip().startswith("CREATE TABLE") else lines or [""])


def test_every_app_begins_with_one_migration() -> None:
    graph = MigrationLoader(None, ignore_no_migrations=True).graph
    for (app, name), replaced in squashes().items():
        assert graph.root_nodes(app) == [(app, name)]
        assert len(replaced) > 1


def test_both_ways_end_in_the_same_schema(databases: Databases, services: Services) -> None:
    made = schema(services, databases.new)
    assert sum(statement.startswith("CREATE TABLE") for statement in made) > 60
    assert sum(statement.startswith("GRANT") for statement in made) > 60
    assert sum(statement.startswith("CREATE TRIGGER") for statement in made) > 30
    assert made == [statement for statement in schema(services, databases.old) if LEFT not in statement]


def test_both_ways_end_in_the_same_rows(databases: Databases, services: Services) -> None:
    tables = rows(
        services,
        databases.new,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND relname !~ '^(django_migrations|django_content_type|auth_permission|agents_runevent_.*)$'",
    )
    assert ("billing_price",) in tables
    filled = {}
    for (table,) in tables:
        found = rows(services, databases.new, f"SELECT to_jsonb(one) - 'id' FROM \"{table}\" one ORDER BY 1")
        assert found == rows(services, databases.old, f"SELECT to_jsonb(one) - 'id' FROM \"{table}\" one ORDER BY 1"), (
            table
        )
        filled[table] = len(found)
    assert filled["billing_price"] == 3


def test_database_that_has_some_of_the_old_files_goes_on_with_them(databases: Databases) -> None:
    applied = set(re.findall(r"Applying (\w+)\.(\w+)\.\.\. OK", databases.went_on))
    assert ("agents", "0011_narrowed_runs") in applied
    assert ("demos", "0002_build_needs_approved_demo") in applied
    assert applied.isdisjoint(squashes())


def test_database_that_has_all_of_the_old_files_has_nothing_to_apply(
    databases: Databases, services: Services, django_db_blocker: DjangoDbBlocker
) -> None:
    url = make_conninfo(services.database_url, dbname=databases.old)
    with psycopg.connect(url) as database:
        for app, name in squashes():
            database.execute("DELETE FROM django_migrations WHERE app = %s AND name = %s", [app, name])
    assert unapplied(url) == len(squashes())
    with django_db_blocker.unblock(), using(databases.old):
        assert "No migrations to apply.\n" in migrate()
    assert unapplied(url) == 0
