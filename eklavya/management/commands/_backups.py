"""What backup and restore share: a database that answers, and a passphrase."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from getpass import getpass

from django.db import connection
from psycopg.conninfo import make_conninfo

from eklavya.backups.manifest import BackupProblem
from eklavya.env import Env
from eklavya.services.instance import Lock, is_held
from eklavya.services.stack import Report, Stack

PASSPHRASE = "EKLAVYA_BACKUP_PASSPHRASE"


def database_url() -> str:
    """Return the database that Django uses, in libpq's form."""
    found = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    parts = {key: found[name] for key, name in names.items() if found.get(name)}
    options = {key: value for key, value in found.get("OPTIONS", {}).items() if key != "pool"}
    return make_conninfo(**parts, **options)


@contextmanager
def servers(env: Env, write: Callable[[str], object], *, alone: bool) -> Iterator[None]:
    """Have the database answer: the embedded one is started where it does not run, and stopped in the end.

    `alone`: nothing else of this data directory may run. Raises ServiceError.
    """
    if not alone and (is_held(env.EKLAVYA_VAR) or env.DATABASE_URL):
        yield
        return
    if env.DATABASE_URL:
        with _locked(env):
            yield
        return

    def tell(report: Report) -> None:
        if report.state in {"ready", "warning"}:
            write(f"{report.title}: {report.detail or report.state}")

    stack = Stack(env, ("postgres",), tell)
    stack.start()
    try:
        yield
    finally:
        connection.close()
        stack.stop()


@contextmanager
def _locked(env: Env) -> Iterator[None]:
    lock = Lock(env.EKLAVYA_VAR)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def passphrase(*, again: bool) -> str:
    """Return the passphrase of the environment, or ask for it; twice where it is a new one."""
    if said := os.environ.get(PASSPHRASE):
        return said
    if not sys.stdin.isatty():
        raise BackupProblem(f"There is nobody to ask for the passphrase: set {PASSPHRASE}.")
    first = getpass("Passphrase of the keys: ")
    if again and getpass("Once more: ") != first:
        raise BackupProblem("The two are not the same.")
    return first
