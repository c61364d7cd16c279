"""How long a dead worker's runs take to run elsewhere, for `bench/supervision.py`."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psycopg

from eklavya.services.sockets import postgres_url
from tests.chaos.house import House

_POLL_S = 0.05
_BEGIN_S = 300
# Longer than anybody needs to come back, and than a lease that nobody renewed would last.
_HEALED_S = 45
_AT_WORK = (
    "SELECT w.name, r.task_id FROM agents_run r JOIN agents_worker w ON w.id = r.worker_id WHERE r.status = 'running'"
)
_ELSEWHERE = (
    "SELECT count(DISTINCT r.task_id) FROM agents_run r JOIN agents_worker w ON w.id = r.worker_id"
    " WHERE r.task_id = ANY(%s) AND w.name <> %s AND r.started_at IS NOT NULL"
)

# A house that has just begun takes nobody for dead.
_HAS_PULSE = "SELECT since < now() - interval '30 s' FROM agents_pulse"
_HAS_GAP = "SELECT since > now() - make_interval(secs => %s) FROM agents_pulse"


class Elsewhere(NamedTuple):
    """How many runs of a dead worker ran elsewhere after so many seconds; how many were lost to an outage before."""

    seconds: float
    runs: int
    lost: int
    has_gap: bool
    """Whether the pulse was younger than 30 s when the lease ran out, as on a machine that is far too busy."""


def until_elsewhere(limit_s: float, *, lease_s: int, outage_s: float = 0) -> Elsewhere:
    """Kill the worker of a run at work, for good; return how long it takes until all its runs run on others.

    With `outage_s` PostgreSQL is stopped at once before that, while runs are at work, and away for so long. Raises
    TimeoutError.
    """
    base = Path(tempfile.mkdtemp(prefix="ekd-"))
    base.chmod(0o711)
    house = House(base, machines_wanted=2, lease_s=lease_s, is_lean=True)
    try:
        house.start()
        if not outage_s:  # or its projects would be done before a machine may be taken for dead
            _await_pulse(house)
        command = [sys.executable, "-m", "tests.chaos.client", "--projects", "2", "--timeout", "600"]
        with subprocess.Popen(command, env=house.environment(), stdout=subprocess.DEVNULL) as client:
            try:
                return _measure(house, limit_s, outage_s, lease_s)
            finally:
                client.kill()
    finally:
        house.stop()
        house.remove(keep=False)
        shutil.rmtree(base, ignore_errors=True)


def _measure(house: House, limit_s: float, outage_s: float, lease_s: float) -> Elsewhere:
    lost = _lost_to(house, outage_s) if outage_s else 0
    with psycopg.connect(postgres_url(house.var), autocommit=True) as database:
        if outage_s:
            _await_pulse(house)
        at_work = _at_work(house, database)
        name = at_work[0][0]
        tasks = [task for worker, task in at_work if worker == name]
        house.kill(f"{name}.worker", down_s=2 * limit_s, with_signal=signal.SIGKILL)
        began = time.monotonic()
        while True:
            row = database.execute(_ELSEWHERE, [tasks, name]).fetchone()
            if row and row[0] == len(tasks):
                seconds = time.monotonic() - began
                (has_gap,) = database.execute(_HAS_GAP, [seconds - lease_s + 30]).fetchone() or (True,)
                return Elsewhere(seconds, len(tasks), lost, has_gap)
            _wait(house, began + limit_s)


def _await_pulse(house: House) -> None:
    give_up = time.monotonic() + _BEGIN_S
    with psycopg.connect(postgres_url(house.var), autocommit=True) as database:
        while not any(database.execute(_HAS_PULSE).fetchone() or ()):
            _wait(house, give_up)


def _at_work(house: House, database: psycopg.Connection) -> list[tuple[str, object]]:
    give_up = time.monotonic() + _BEGIN_S
    while not (found := database.execute(_AT_WORK).fetchall()):
        _wait(house, give_up)
    return found


def _lost_to(house: House, outage_s: float) -> int:
    """Stop PostgreSQL under runs at work; return how many of all runs were lost, once nobody waits for it any more."""
    with psycopg.connect(postgres_url(house.var), autocommit=True) as database:
        _at_work(house, database)
    house.kill("postgres", down_s=outage_s, with_signal=signal.SIGQUIT)
    until = time.monotonic() + outage_s + _HEALED_S
    while time.monotonic() < until:
        house.poll()
        time.sleep(_POLL_S)
    with psycopg.connect(postgres_url(house.var), autocommit=True) as database:
        (lost,) = database.execute("SELECT count(*) FROM agents_run WHERE status = 'lost'").fetchone() or (0,)
    return int(lost)


def _wait(house: House, give_up: float) -> None:
    house.poll()
    time.sleep(_POLL_S)
    if time.monotonic() > give_up:
        raise TimeoutError
