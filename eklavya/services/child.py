"""One supervised process: its start, its log, its readiness, its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from eklavya.services.errors import StartFailed

_EXEC_CHILD = str(Path(__file__).with_name("exec_child.py"))
_LOG_LIMIT_BYTES = 20_000_000
POLL_SECONDS = 0.05
_KILL_SECONDS = 10


def bare_environment() -> dict[str, str]:
    """What any program may know: no keys, no addresses."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a process is. Two children of one specification never run at a time."""

    name: str
    """Key, and name of the log file."""
    title: str
    """As people read it."""
    command: Sequence[str]
    """Full path of the program, and its arguments."""
    ready: Callable[[], bool]
    """Asks the process itself whether it does its work; quick, and False rather than an exception."""
    deadline_s: float = 90
    """Longest time from start to readiness."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10
    """Time between the stop signal and SIGKILL."""
    death_signal: signal.Signals = signal.SIGTERM
    """Sent by the kernel when the supervisor dies."""
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=bare_environment)
    """All of it: nothing is inherited."""
    cwd: Path | None = None
    before: Callable[[], None] | None = None
    """Clears what a killed predecessor left; called before each start."""


class Child:
    """A process made from a specification.

    The thread that starts it must outlive it: the kernel counts the end of that thread as the parent's death.
    """

    def __init__(self, spec: Spec, *, logs: Path) -> None:
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        self.started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._was_asked = False

    @property
    def pid(self) -> int | None:
        """The process, while it is there."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """How the last process ended; negative is a signal. None while it runs or was never started."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the process; its output is appended to the log."""
        assert self.pid is None, f"{self.spec.name} runs already"
        if self.spec.before:
            self.spec.before()
        rotate(self.log)
        self.started_at = time.monotonic()
        self._was_asked = False
        shim = [sys.executable, "-I", "-S", _EXEC_CHILD]
        identity = [str(os.getpid()), str(int(self.spec.death_signal)), self.spec.user or "-"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*shim, *identity, *self.spec.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.spec.cwd,
                env=self.spec.environment,
                # Ctrl-C in the terminal reaches the supervisor alone, which then stops all in order
                start_new_session=True,
            )

    def check_ready(self) -> bool:
        """True once it does its work. Raises StartFailed when it ended or took too long."""
        if self.exit_code is not None:
            ending = describe_exit(self.exit_code)
            raise StartFailed(f"{self.spec.title} {ending} while starting: {self.reason()}")
        if self.spec.ready():
            return True
        if time.monotonic() - self.started_at > self.spec.deadline_s:
            limit = f"{self.spec.deadline_s:.0f} s"
            raise StartFailed(f"{self.spec.title} is not ready after {limit}: {self.reason()}")
        return False

    def reason(self) -> str:
        """The log's last line that says something, and where the rest is."""
        return f"{last_line(self.log)} (log: {self.log})"

    def signal_stop(self) -> None:
        """Ask the process to stop, if it is there. Once: to many programs a second signal means to stop less well."""
        if self._process and self._process.poll() is None and not self._was_asked:
            self._was_asked = True
            self._process.send_signal(self.spec.stop_signal)

    def kill(self) -> None:
        """End the whole session of the process at once. One that waits for a dead disk may outlive it: see `pid`."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_SECONDS)

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop the process and reap it; by force after its time, or as soon as ``hurry`` says so."""
        self.signal_stop()
        deadline = time.monotonic() + self.spec.stop_timeout_s
        while self.pid is not None and time.monotonic() < deadline and not hurry():
            time.sleep(POLL_SECONDS)
        self.kill()


def describe_exit(code: int) -> str:
    """A process's end in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def last_line(log: Path) -> str:
    """The last line in a log that says something, shortened; words for an empty one.

    PostgreSQL shows the place of an error below it: a line `LINE 1: …`, and one with a caret.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace").strip()
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines()]
    saying = [line for line in lines if any(map(str.isalpha, line)) and not line.startswith("LINE ")]
    return saying[-1][:300] if saying else "it wrote nothing"


def rotate(log: Path) -> None:
    """Keep one older log beside the present one, once that is large."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
