"""The one stack of a data directory: its lock, its record, and what it left when it was killed."""

import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import TypedDict

import psutil

from eklavya.services.errors import AlreadyRunning
from eklavya.services.processes import send, wait_gone

# The kernel counts a process's start in ticks since boot; clock corrections move the boot time a little.
_CLOCK_TOLERANCE_S = 2
_REAP_TIMEOUT_S = 20


class ProcessRecord(TypedDict):
    """One child as recorded; pid and start time together name a process for good."""

    pid: int
    created: float
    """Seconds since the epoch."""
    state: str
    stop_signal: int


class Record(TypedDict):
    """Content of ``run/eklavya.json``."""

    pid: int
    url: str
    state: str
    processes: dict[str, ProcessRecord]


def record_path(var: Path) -> Path:
    """Where a stack says what it runs."""
    return var / "run" / "eklavya.json"


def read_record(var: Path) -> Record | None:
    """The latest record; it may be a dead stack's."""
    try:
        record: Record = json.loads(record_path(var).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record


def write_json(path: Path, content: object) -> None:
    """Replace a file in one step, so that a reader never sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    draft.replace(path)


class Lock:
    """Held by the process whose stack runs. The kernel lets go of it however that process ends."""

    def __init__(self, var: Path) -> None:
        self._var = var
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise AlreadyRunning."""
        self._var.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._var / "run").mkdir(exist_ok=True)
        descriptor = os.open(self._var / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        # is_held() of another process takes the lock for an instant: look again before believing it
        for attempt in range(10):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05 * (attempt > 0))
            else:
                self._descriptor = descriptor
                return
        os.close(descriptor)
        record = read_record(self._var)
        raise AlreadyRunning(record["pid"] if record else 0, record["url"] if record else "starting")

    @property
    def is_mine(self) -> bool:
        """Whether this process holds it."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(var: Path) -> bool:
    """True while some process holds the lock."""
    try:
        descriptor = os.open(var / "run" / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def reap_leftovers(var: Path, *, at_once: bool = False) -> list[str]:
    """End what a stack left running, by the record and the start times in it; returns the names.

    Call it with the lock held. The kernel ends children together with their supervisor where it can; this
    is for what it could not, and for what those children had started themselves in the same session.
    """
    found = {name: processes for name, child in _recorded(var).items() if (processes := _session(child))}
    alive = [process for processes in found.values() for process in processes]
    if not at_once:
        for name, processes in found.items():
            for process in processes:
                send(process, _recorded(var)[name]["stop_signal"])
        alive = wait_gone(alive, seconds=_REAP_TIMEOUT_S)
    for process in alive:
        send(process, signal.SIGKILL)
    wait_gone(alive, seconds=_REAP_TIMEOUT_S)
    return list(found)


def left_running(var: Path) -> list[int]:
    """Return the pids of what still runs of the recorded stack."""
    found = [process for child in _recorded(var).values() for process in _session(child)]
    return sorted(process.pid for process in wait_gone(found, seconds=0))


def _recorded(var: Path) -> dict[str, ProcessRecord]:
    record = read_record(var)
    return record["processes"] if record else {}


def _session(child: ProcessRecord) -> list[psutil.Process]:
    """What lives of the recorded child's session, in which each child is the leader."""
    try:
        leader_created = psutil.Process(child["pid"]).create_time()
    except psutil.NoSuchProcess:
        pass
    else:
        if abs(leader_created - child["created"]) > _CLOCK_TOLERANCE_S:
            return []  # the number belongs to another process by now
    return [process for process in psutil.process_iter() if _session_id(process) == child["pid"]]


def _session_id(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None
