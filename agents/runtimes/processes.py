"""Processes of this host that belong to sandboxes: how they are started, found again and ended.

Nothing is kept in memory. Each sandbox has a directory `<state_dir>/<name>/`:

    about.json       what it is (project, labels, address of its service); written before anything starts
    <pid>.process    one per process that was started: pid, start time, boot; written by launch.py
    killed           the sandbox is being ended: launch.py refuses to start anything more
    log              what its service wrote
    tmp/             its TMPDIR (local runtime)

A process is the sandbox's when it was recorded, when it descends from such a process, when it is in a
session that one leads, or when its environment carries the marker EKLAVYA_SANDBOX=<name>@<id of state_dir>.
The last holds also for a daemon that forked twice and called setsid, unless it threw away its environment
too: see `ProcessTable.kill`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, TypedDict

from agents.runtimes.errors import RuntimeProblem, SandboxBusy

__all__ = ["About", "Launch", "Process", "ProcessTable", "poll", "start_detached", "write_private"]

_HELPER = Path(__file__).with_name("launch.py")
_KILL_TIMEOUT_S = 10.0
"""SIGKILL acts at once, except on a process that waits for a disk."""
_PROC_BYTES = 65_536


class About(TypedDict):
    """The content of about.json."""

    project: str
    labels: dict[str, str]
    port: int | None


class Process(NamedTuple):
    """A process of this boot. Its number may be reused later, its number and start time never."""

    pid: int
    start: int
    """Clock ticks since boot."""


class _Stat(NamedTuple):
    state: str
    parent: int
    session: int
    start: int


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The settings of launch.py, which documents what becomes of them."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    record: str
    inherit: list[str] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    detach: bool = False
    log: str | None = None

    def command(self, settings: str = "-") -> list[str]:
        """The command that reads these settings from a file, or from stdin."""
        # -I and -S: the caller's PYTHON* variables, working directory and site-packages stay out.
        return [sys.executable, "-I", "-S", str(_HELPER), settings]

    def to_json(self) -> bytes:
        """What launch.py reads."""
        return json.dumps(asdict(self)).encode()

    def write_script(self, directory: Path) -> Path:
        """Write `launcher` and its settings into the directory; only the owner may read, write or enter."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        settings = directory / "launcher.json"
        write_private(settings, self.to_json())
        script = directory / "launcher"
        command = shlex.join(self.command(str(settings)))
        write_private(script, f'#!/bin/sh\nexec {command} "$@"\n'.encode(), mode=0o700)
        return script


def poll(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.02) -> bool:
    """Ask until the condition holds or the time is over; the last answer."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)
    return True


class ProcessTable:
    """The processes of all sandboxes under one state directory; two objects over one are the same."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir.resolve()
        self._id = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:12]

    def marker(self, name: str) -> str:
        """The value of EKLAVYA_SANDBOX: no other installation on this machine uses the same."""
        return f"{name}@{self._id}"

    def open(self, name: str, about: About) -> Path:
        """Make the sandbox's directory, clearing an ended one's. Raises SandboxBusy when alive."""
        # Where there is no directory nothing runs: it is made before the first process and outlives the last.
        if self.is_used(name):
            if self.is_alive(name):
                raise SandboxBusy(f"the sandbox {name} is alive")
            self._forget(name)
        directory = self.directory(name)
        try:
            directory.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            raise SandboxBusy(f"the sandbox {name} is being started by someone else") from None
        self.describe(name, about)
        return directory

    def is_used(self, name: str) -> bool:
        """Whether the name has a directory, of a sandbox that lives or has ended."""
        return self.directory(name).exists()

    def directory(self, name: str) -> Path:
        """Where the sandbox's records are, if it has any."""
        return self.state_dir / name

    def describe(self, name: str, about: About) -> None:
        """Write about.json, whole or not at all."""
        write_private(self.directory(name) / "about.json", json.dumps(about).encode())

    def about(self, name: str) -> About | None:
        """What was written at the start; None for a free name."""
        try:
            about: About = json.loads((self.directory(name) / "about.json").read_bytes())
        except FileNotFoundError:
            return None
        return about

    def names(self) -> list[str]:
        """All sandboxes that have a directory, alive or ended."""
        if not self.state_dir.is_dir():
            return []
        return sorted(entry.name for entry in self.state_dir.iterdir() if entry.is_dir())

    def is_alive(self, name: str) -> bool:
        """Whether any process of the sandbox exists. Fast when a recorded one does."""
        return self.is_main_alive(name) or bool(self.members(name))

    def is_main_alive(self, name: str) -> bool:
        """Whether a process that was started as the sandbox's own exists; what it started may live on without."""
        return next(self._recorded(name), None) is not None

    def members(self, name: str, also: Iterable[Process] = ()) -> set[Process]:
        """Every process of the sandbox, and of those in `also`, that exists now; zombies are gone already."""
        stats = _all_stats()
        mine = set(also) | set(self._recorded(name)) | _marked(stats, self.marker(name))
        alive = {process for process in mine if process.pid in stats and stats[process.pid].start == process.start}
        return _with_followers(alive, stats)

    def kill(self, name: str) -> None:
        """End every process of the sandbox and remove its directory. Idempotent.

        All are stopped before the first is killed: a process that forks while its relatives die would get away. Beyond
        reach is what took a session of its own, lost its parent *and* either threw away its environment or is replaced
        by a child faster than /proc can be read. That takes intent, against which there is the other runtime.
        """
        directory = self.directory(name)
        with suppress(FileNotFoundError):  # there is none, or somebody else removes it now
            (directory / "killed").touch()
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        found = self._freeze(name)
        while found:
            for process in found:
                _send(process, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise RuntimeProblem(f"{len(found)} processes of the sandbox {name} survive SIGKILL")
            found = self.members(name, also=found)
        self._forget(name)

    def _freeze(self, name: str) -> set[Process]:
        """Stop every process of the sandbox, until a look around finds no new one."""
        known: set[Process] = set()
        while new := self.members(name, also=known) - known:
            for process in new:
                _send(process, signal.SIGSTOP)
            known |= new
        return known

    def _forget(self, name: str) -> None:
        if self.is_used(name):
            shutil.rmtree(self.directory(name), onerror=_open_and_retry)

    def _recorded(self, name: str) -> Iterator[Process]:
        directory = self.directory(name)
        try:
            entries = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.endswith(".process"):
                continue
            try:
                record = json.loads((directory / entry).read_bytes())
            except FileNotFoundError:  # someone else ended the sandbox just now
                continue
            process = Process(record["pid"], record["start"])
            # After a reboot the same pid may have started at the same tick.
            if record["boot"] == _boot_id() and _is_alive(process):
                yield process


def start_detached(launch: Launch, *, marker: str) -> None:
    """Start a process that init adopts. Raises RuntimeProblem, in launch.py's words, when it cannot."""
    done = subprocess.run(
        launch.command(),
        input=launch.to_json(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"EKLAVYA_SANDBOX": marker},
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeProblem(done.stderr.decode(errors="replace").strip() or "the process could not be started")


def _with_followers(processes: set[Process], stats: Mapping[int, _Stat]) -> set[Process]:
    """The processes, their descendants, and the members of the sessions which they lead."""
    family = {process.pid for process in processes}
    grown = True
    while grown:
        followers = {pid for pid, stat in stats.items() if stat.parent in family or stat.session in family}
        grown = not followers <= family
        family |= followers
    family.discard(os.getpid())
    return {Process(pid, stats[pid].start) for pid in family}


def _marked(stats: Mapping[int, _Stat], marker: str) -> set[Process]:
    return {Process(pid, stat.start) for pid, stat in stats.items() if _is_marked(pid, marker)}


def _is_marked(pid: int, marker: str) -> bool:
    try:
        environ = _read(f"/proc/{pid}/environ")
    except OSError:  # it ended, or belongs to another user and so is not ours
        return False
    return f"EKLAVYA_SANDBOX={marker}".encode() in environ.split(b"\0")


def _read(path: str) -> bytes:
    """Read a file of /proc. Half the time that pathlib takes, and there are two for each process of the machine."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, _PROC_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


def _all_stats() -> dict[int, _Stat]:
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return {pid: stat for pid in pids if (stat := _stat(pid))}


def _stat(pid: int) -> _Stat | None:
    """The process as the kernel sees it; None when there is none, or only a zombie of it."""
    try:
        text = _read(f"/proc/{pid}/stat").decode(errors="replace")
    except OSError:
        return None
    # The program's name, in parentheses, may hold anything, closing parentheses included.
    state, parent, _group, session, *rest = text.rpartition(")")[2].split()
    if state in "ZX":
        return None
    return _Stat(state, int(parent), int(session), int(rest[15]))


def _is_alive(process: Process) -> bool:
    stat = _stat(process.pid)
    return stat is not None and stat.start == process.start


def _send(process: Process, number: signal.Signals) -> None:
    """Send a signal, but never to a later process of the same number: pin the pid, then look."""
    try:
        pinned = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if _is_alive(process):
            signal.pidfd_send_signal(pinned, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pinned)


def _open_and_retry(_: Callable[..., object], path: str, error: object) -> None:
    """Go on where something could not be removed: a sandbox may have closed its own directories. What is gone needs no
    removal: whoever else ends the sandbox at this moment was first."""
    with suppress(FileNotFoundError):
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path, onerror=_open_and_retry)
        else:
            os.unlink(path)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_private(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file in one step; it never exists with more rights than `mode`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    draft.chmod(mode)
    draft.rename(path)
