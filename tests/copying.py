"""One migration for all processes of a test run: the first makes a migrated database, and each copies it for itself.

The database is of this run, on the run's own PostgreSQL: none outlives a migration.
"""

import fcntl
from pathlib import Path

import pytest
from django.db import connection

MIGRATED = "migrated"


def migrated_database(base: Path) -> str:
    """Return the name of a migrated database without rows of ours or sessions. Made once per run, in `base`."""
    done = base / MIGRATED
    with (base / f"{MIGRATED}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _migrate()
            done.touch()
    return MIGRATED


def _migrate() -> None:
    with pytest.MonkeyPatch.context() as patch:
        given = connection.settings_dict
        patch.setitem(given, "NAME", given["NAME"])  # which `create_test_db` changes
        patch.setitem(given["TEST"], "NAME", MIGRATED)
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        connection.close()  # nobody can copy a database in which there is a session
