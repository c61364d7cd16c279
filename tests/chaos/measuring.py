"""How long a dead worker's runs take to run elsewhere, for `bench/supervision.py`."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psycopg

from eklavya.services.sockets import postgres_url
from tests.chaos.house import House

_POLL_S = 0.05
_BEGIN_S = 300
# Longer than anybody needs to come back, and than a lease that nobody renewed would last.
_HEALED_S = 45
# So many projects that a worker has several runs at one moment, and so many places that either could have them all.
_PROJECTS, _CAPACITY = 6, 8
_HELD, _HELD_WITHIN_S = 3, 60
_AT_WORK = (
    "SELECT w.name, r.task_id FROM agents_run r JOIN agents_worker w ON w.id = r.worker_id WHERE r.status = 'running'"
)
_ELSEWHERE = (
    "SELECT DISTINCT r.task_id FROM agents_run r JOIN agents_worker w ON w.id = r.worker_id"
    " WHERE r.task_id = ANY(%s) AND w.name <> %s AND r.started_at IS NOT NULL"
)

# A house that has just begun takes nobody for dead.
_HAS_PULSE = "SELECT since < now() - interval '30 s' FROM agents_pulse"
_HAS_GAP = "SELECT since > now() - make_interval(secs => %s) FROM agents_pulse"


class Elsewhere(NamedTuple):
    """After how many seconds each run of a dead worker ran elsewhere; how many were lost to an outage before."""

    seconds: list[float]
    lost: int
    has_gap: bool
    """Whether the pulse was younger than 30 s when the lease ran out, as on a machine that is far too busy."""


def until_elsewhere(limit_s: float, *, lease_s: int, outage_s: float = 0) -> Elsewhere:
    """Kill a worker that has several runs at work, for good; return how long it takes until each runs on another.

    With `outage_s` PostgreSQL is stopped at once before that, while runs are at work, and away for so long. Raises
    TimeoutError.
    """
    base = Path(tempfile.mkdtemp(prefix="ekd-"))
    base.chmod(0o711)
    house = House(base, machines_wanted=2, lease_s=lease_s, is_lean=True, capacity=_CAPACITY)
    try:
        house.start()
        if not outage_s:  # or its projects would be done before a machine may be taken for dead
            _await_pulse(house)
        command = [sys.executable, "-m", "tests.chaos.client", "--projects", str(_PROJECTS), "--timeout", "600"]
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
        name = _worker_of_most(house, database)
        house.kill(f"{name}.worker", down_s=2 * limit_s, with_signal=signal.SIGKILL)
        began = time.monotonic()
        # What is at work there now stays so: nobody moves it on. One may have ended in the last moment.
        tasks = [task for worker, task in database.execute(_AT_WORK) if worker == name]
        seen: dict[object, float] = {}
        while len(seen) < len(tasks):
            _wait(house, began + limit_s)
            for (task,) in database.execute(_ELSEWHERE, [tasks, name]):
                seen.setdefault(task, time.monotonic() - began)
        seconds = sorted(seen.values())
        (has_gap,) = database.execute(_HAS_GAP, [max(seconds, default=0) - lease_s + 30]).fetchone() or (True,)
        return Elsewhere(seconds, lost, has_gap)


def _worker_of_most(house: House, database: psycopg.Connection) -> str:
    """Wait for a worker with several runs at work, or, after a while, for one with any; return the one with most."""
    patient_until = time.monotonic() + _HELD_WITHIN_S
    while True:
        ((name, runs),) = Counter(worker for worker, _ in _at_work(house, database)).most_common(1)
        if runs >= _HELD or time.monotonic() > patient_until:
            return str(name)
        _wait(house, patient_until + _BEGIN_S)


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
