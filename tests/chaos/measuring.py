"""How long a dead worker's runs take to run elsewhere, for `bench/supervision.py`."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from eklavya.services.sockets import postgres_url
from tests.chaos.house import House

_POLL_S = 0.05
_BEGIN_S = 300
_AT_WORK = (
    "SELECT w.name, r.task_id FROM agents_run r JOIN agents_worker w ON w.id = r.worker_id WHERE r.status = 'running'"
)
_ELSEWHERE = (
    "SELECT count(DISTINCT r.task_id) FROM agents_run r JOIN agents_worker w ON w.id = r.worker_id"
    " WHERE r.task_id = ANY(%s) AND w.name <> %s AND r.started_at IS NOT NULL"
)


def until_elsewhere(limit_s: float, *, lease_s: int) -> tuple[float, int]:
    """Kill the worker of a run at work, for good; return the seconds until all its runs run on others, and how many.

    Raises TimeoutError.
    """
    base = Path(tempfile.mkdtemp(prefix="ekd-"))
    base.chmod(0o711)
    house = House(base, machines_wanted=2, lease_s=lease_s, is_lean=True)
    try:
        house.start()
        command = [sys.executable, "-m", "tests.chaos.client", "--projects", "2", "--timeout", "600"]
        with subprocess.Popen(command, env=house.environment(), stdout=subprocess.DEVNULL) as client:
            try:
                return _measure(house, limit_s)
            finally:
                client.kill()
    finally:
        house.stop()
        house.remove(keep=False)
        shutil.rmtree(base, ignore_errors=True)


def _measure(house: House, limit_s: float) -> tuple[float, int]:
    with psycopg.connect(postgres_url(house.var), autocommit=True) as database:
        give_up = time.monotonic() + _BEGIN_S
        while not (at_work := database.execute(_AT_WORK).fetchall()):
            _wait(house, give_up)
        name = at_work[0][0]
        tasks = [task for worker, task in at_work if worker == name]
        house.kill(f"{name}.worker", down_s=2 * limit_s, with_signal=signal.SIGKILL)
        began = time.monotonic()
        while True:
            row = database.execute(_ELSEWHERE, [tasks, name]).fetchone()
            if row and row[0] == len(tasks):
                return time.monotonic() - began, len(tasks)
            _wait(house, began + limit_s)


def _wait(house: House, give_up: float) -> None:
    house.poll()
    time.sleep(_POLL_S)
    if time.monotonic() > give_up:
        raise TimeoutError
