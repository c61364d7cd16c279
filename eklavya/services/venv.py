"""Makes the virtual environment `.venv` from the hashed lock, then becomes its Python.

    python3.11 -I eklavya/services/venv.py [--dev] [ARGUMENTS OF THE VENV'S PYTHON...]

Run by path, with the standard library only: nothing is installed yet. What is wrong ends it with one line
and exit code 1.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / "installed.json"
LOG = VENV / "install.log"

RUN_LOCK = ROOT / "requirements.txt"
DEV_LOCK = ROOT / "requirements-dev.txt"

# The finished environment has 1.1 GB; pip unpacks each package beside it first.
NEEDED_BYTES = 2_500_000_000


class Problem(SystemExit):
    """Ends the program with one line that says what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"eklavya: {sentence}")


class Progress:
    """One line that counts, on a terminal; elsewhere a line now and then."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = 0
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._next_line_s = 0.0

    def show(self, what: str) -> None:
        """Show the count, the time since the start and what is being done."""
        elapsed = time.monotonic() - self._started
        line = f"  installing  {self.count} of {self.total} packages  {elapsed:.0f} s  {what}"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{line[:width]}")
        elif elapsed >= self._next_line_s:
            sys.stderr.write(line + "\n")
            self._next_line_s = elapsed + 10
        sys.stderr.flush()

    def close(self) -> None:
        """Clear the line and say how long it took."""
        elapsed = time.monotonic() - self._started
        clear = "\r\x1b[K" if self._terminal else ""
        sys.stderr.write(f"{clear}  installed   {self.total} packages  {elapsed:.0f} s\n")


def main(arguments: list[str]) -> None:
    """Make the environment complete, then run the rest of the arguments with its Python, if there are any."""
    dev = "--dev" in arguments[:1]
    command = arguments[1:] if dev else arguments
    check_git()
    check_reachable()
    with only_one():
        prepare(DEV_LOCK if dev else RUN_LOCK)
    if command:
        os.chdir(ROOT)
        python = str(VENV / "bin" / "python")
        os.execv(python, [python, *command])


def check_reachable() -> None:
    """An environment whose Python this user cannot run was made by another user, with a Python of their own."""
    python = VENV / "bin" / "python"
    try:
        python.stat()
        runs = os.access(python, os.X_OK)
    except PermissionError:
        runs = False
    except OSError:
        return  # there is none, or a broken one, which is made anew
    if not runs:
        owner = f"it was made by {owner_of(VENV)}, with {os.path.realpath(python)}"
        raise Problem(f"this user may not run {python} ({owner}): start as that user, or clone Eklavya for this one")


def owner_of(path: Path) -> str:
    """Name of a file's owner, as far as it can be known."""
    try:
        return path.owner()
    except (OSError, KeyError):
        return "another user"


def prepare(lock: Path) -> None:
    """Install what the lock names, unless exactly that was done before."""
    wanted = digests(lock)
    if wanted.items() <= read_stamp().items():
        return
    check_venv_module()
    check_room()
    sys.stderr.write(f"  preparing   {VENV}\n")
    sys.stderr.flush()
    try:
        make_venv()
        install(lock)
        # the development lock holds all of the other one too
        STAMP.write_text(json.dumps(digests(RUN_LOCK, lock)), encoding="utf-8")
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        do = "make room" if full else "start as the user who owns it, or move it away"
        raise Problem(f"cannot write {VENV} ({error.strerror}): {do}") from None


def digests(*locks: Path) -> dict[str, str]:
    """SHA-256 of each lock, by name."""
    return {lock.name: hashlib.sha256(lock.read_bytes()).hexdigest() for lock in locks}


def read_stamp() -> dict[str, str]:
    """Digests of the locks that this environment was made from; empty when it is not complete."""
    if not (VENV / "bin" / "python").exists():
        return {}
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def make_venv() -> None:
    """Create the environment, anew where a broken or other Python's one lies."""
    STAMP.unlink(missing_ok=True)
    python = VENV / "bin" / "python"
    usable = python.exists() and (VENV / "lib" / f"python3.{sys.version_info.minor}").exists()
    if not usable or not pip_works(python):
        command = [sys.executable, "-I", "-m", "venv", "--clear", "--symlinks", str(VENV)]
        made = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode:
            raise without_venv(" ".join(made.stdout.split())[-300:])


def pip_works(python: Path) -> bool:
    """True when the environment's own pip starts: it does not after its directory was moved."""
    result = subprocess.run([python, "-m", "pip", "--version"], check=False, capture_output=True)
    return result.returncode == 0


def install(lock: Path) -> None:
    """Run pip on the lock, counting its packages; raises Problem with pip's own error."""
    progress = Progress(len(re.findall(r"^[A-Za-z0-9].*==", lock.read_text(encoding="utf-8"), re.MULTILINE)))
    # --no-deps: the lock is complete, so there is nothing to resolve
    strict = ["--require-hashes", "--no-deps"]
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", *strict, *quiet, "-r", str(lock)]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with LOG.open("w", encoding="utf-8") as log, pip, unpacking_counted(progress) as begin:
        assert pip.stdout
        for line in pip.stdout:
            log.write(line)
            follow(line.strip(), progress)
            if line.startswith("Installing collected packages"):
                begin.set()
    if pip.returncode:
        raise Problem(f"{why_failed()} (log: {LOG})")
    progress.close()


@contextlib.contextmanager
def unpacking_counted(progress: Progress) -> Iterator[threading.Event]:
    """Show, from the moment the event is set, how many packages lie in the environment: then pip says nothing."""
    begin, end = threading.Event(), threading.Event()
    before = len(unpacked())

    def count() -> None:
        begin.wait()
        while not end.wait(0.5):
            progress.show(f"unpacking, {max(len(unpacked()) - before, 0)} done")

    counter = threading.Thread(target=count, daemon=True)
    counter.start()
    try:
        yield begin
    finally:
        end.set()
        begin.set()
        counter.join()


def unpacked() -> list[Path]:
    """The records of packages in the environment."""
    return list(VENV.glob("lib/python3.*/site-packages/*.dist-info"))


def follow(line: str, progress: Progress) -> None:
    """Count what pip says."""
    package = re.match(r"(?:Collecting|Processing|Requirement already satisfied:|Ignoring) (?:\S*/)?([\w.-]+)", line)
    if package:
        progress.count += 1
        # a local file's name goes on with its version
        progress.show(re.split(r"-\d", package[1])[0])
    elif line.startswith("Installing collected packages"):
        progress.show("unpacking")


def why_failed() -> str:
    """What went wrong, in one line. pip's last words do not say it where no package index could be reached."""
    text = LOG.read_text(encoding="utf-8")
    if os.strerror(errno.ENOSPC) in text:
        return f"the disk became full while installing: make room ({NEEDED_BYTES / 1e9:.1f} GB)"
    if "No matching distribution found" in text and "Retrying (Retry(" in text:
        return "the package index could not be reached: connect to the network, or set PIP_INDEX_URL to another one"
    return f"installing failed: {last_error()}"


def last_error() -> str:
    """The last thing that pip called an error."""
    lines = [line.strip() for line in LOG.read_text(encoding="utf-8").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip said nothing"])[-1].removeprefix("ERROR: ")


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Let one process at a time change the environment: `make run` beside `make test`."""
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def check_git() -> None:
    """Git keeps all that agents make."""
    if not shutil.which("git"):
        raise Problem("needs git: install it (Debian: apt-get install git)")


def check_venv_module() -> None:
    """Debian ships the module that makes environments apart from Python."""
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        raise without_venv("")


def without_venv(said: str) -> Problem:
    """What to do where no environment can be made; `said` is Python's own word for why."""
    because = f" ({said})" if said else ""
    package = f"python3.{sys.version_info.minor}-venv"
    return Problem(f"Python cannot make virtual environments{because}: install it (Debian: apt-get install {package})")


def check_room() -> None:
    """The environment and pip's temporary files need room."""
    for place in (ROOT, Path(tempfile.gettempdir())):
        free = shutil.disk_usage(place).free
        if free < NEEDED_BYTES:
            has = f"{place} has only {free / 1e9:.1f} GB free"
            raise Problem(f"{has}, and installing needs {NEEDED_BYTES / 1e9:.1f} GB: make room")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
