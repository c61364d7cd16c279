"""The database to a file and back, by the programs that come with the embedded PostgreSQL."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eklavya.backups.manifest import BackupProblem
from eklavya.services.postgres import BINARIES

_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_TABLES = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
# In one transaction: until its end the database is what it was.
_EMPTY = ("DROP SCHEMA IF EXISTS public CASCADE", "CREATE SCHEMA public")
_QUIETLY = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null")


class Snapshot:
    """The database as it is at one moment, for as long as the connection is held."""

    def __init__(self, connection: psycopg.Connection[Any], name: str) -> None:
        self._connection = connection
        self.name = name

    def projects(self) -> list[str]:
        """Return the ids of all projects."""
        return [str(pk) for (pk,) in self._connection.execute("SELECT id FROM projects_project ORDER BY id")]

    def migrations(self) -> list[str]:
        """Return "app.name" of each migration that ran."""
        rows = self._connection.execute("SELECT app, name FROM django_migrations ORDER BY app, name")
        return [f"{app}.{name}" for app, name in rows]


@contextmanager
def snapshot(url: str) -> Iterator[Snapshot]:
    """Hold a snapshot that pg_dump can use too."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        (name,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        yield Snapshot(connection, name)


def dump(url: str, of: Snapshot, to: Path) -> None:
    """Write the database as the snapshot has it. Raises BackupProblem."""
    command = ["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={of.name}"]
    with to.open("wb") as file:
        _run(url, command, stdout=file)


def load(url: str, dump_file: Path, *, scratch: Path) -> None:
    """Replace all that is in the database, in one transaction. Raises BackupProblem, with nothing changed.

    The script is written to `scratch` first: of one that breaks off half would be committed.
    """
    _run(None, ["pg_restore", "--no-owner", "--no-privileges", f"--file={scratch}", str(dump_file)])
    _run(url, ["psql", *_QUIETLY, *(f"--command={line}" for line in _EMPTY), f"--file={scratch}"])


def is_empty(url: str) -> bool:
    """Whether there is no table at all."""
    with psycopg.connect(url) as connection:
        (tables,) = connection.execute(_TABLES).fetchone() or (0,)
    return not tables


def others_connected(url: str) -> int:
    """Return how many others work with the database now."""
    with psycopg.connect(url) as connection:
        (others,) = connection.execute(_OTHERS).fetchone() or (0,)
    return int(others)


def analyze(url: str) -> None:
    """Gather the statistics that a dump does not have."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")


def _run(url: str | None, command: list[str], *, stdout: Any = subprocess.DEVNULL) -> None:
    # The password goes by the environment: arguments can be read by every user of the machine.
    parts = {key: str(value) for key, value in conninfo_to_dict(url or "").items()}
    password = parts.pop("password", "")
    where = [f"--dbname={make_conninfo(**parts)}"] if url else []
    done = subprocess.run(
        [str(BINARIES / command[0]), *command[1:], *where],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=_environment({"PGPASSWORD": password} if password else {}),
        cwd="/",
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise BackupProblem(f"{command[0]} failed: {lines[0] if lines else 'it said nothing'}")


def _environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **(extra or {})}
