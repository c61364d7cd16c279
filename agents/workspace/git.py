"""The one place where the git command is started.

Every call has a fixed argument list, an environment of its own (nothing of the caller's is passed on), no
configuration but a repository's own file and the settings below, a deadline, and a bound on its output and memory.
The repositories it is pointed at are the platform's own; never a directory that an agent could write to.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from agents.workspace.errors import GitFailed, GitTimedOut, OutputTooLarge
from agents.workspace.values import Author

CHUNK_BYTES = 65_536
QUICK_S = 60.0
# A transfer or an index of everything a run may bring; far above what the limits allow on a slow disk.
TRANSFER_S = 300.0
MAX_OUTPUT_BYTES = 64_000_000
# An agent's own processes go before it, and the platform's before those (runtimes.launch).
_PATIENT = 10
# Address space of one git process. A small object can claim to unpack to anything; this is where it ends.
MAX_MEMORY_BYTES = 4 * 1024**3

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_SSH_COMMAND": "/bin/false",
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.quotePath=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.bigFileThreshold=16m",
    "pack.threads=1",
    "pack.windowMemory=256m",
    "fastimport.unpackLimit=0",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "transfer.fsckObjects=true",
    "commit.gpgSign=false",
    "log.showSignature=false",
)
_OPTIONS = tuple(part for setting in _SETTINGS for part in ("-c", setting))


def _limited() -> tuple[str, ...]:
    """Run under `prlimit` where util-linux has it (every Linux): memory bound, no core files."""
    found = shutil.which("prlimit", path=_ENVIRONMENT["PATH"])
    return (found, f"--as={MAX_MEMORY_BYTES}", "--core=0", "--") if found else ()


_PREFIX = _limited()


class Completed(NamedTuple):
    """How a command ended that its caller accepts."""

    returncode: int
    stdout: bytes


@dataclass(frozen=True, slots=True)
class Git:
    """git, bound to one repository of the platform's own."""

    git_dir: Path
    work_tree: Path | None = None
    """A directory of the platform's own too: a checkout in the making, never a run's clone."""
    environment: Mapping[str, str] = field(default_factory=dict)
    is_patient: bool = False
    """Whether it lets others have the processor: what is needed soon, but not yet."""

    def run(
        self,
        *args: str | bytes | Path,
        stdin: bytes | IO[bytes] = b"",
        accept: tuple[int, ...] = (0,),
        timeout_s: float = QUICK_S,
        max_bytes: int = MAX_OUTPUT_BYTES,
    ) -> Completed:
        """Run one command to its end.

        Raises GitFailed when it ends with a code outside `accept`, GitTimedOut, OutputTooLarge.
        """
        with _Process(self, args, stdin=stdin, timeout_s=timeout_s) as process:
            output = bytearray()
            for chunk in process.chunks():
                output += chunk
                if len(output) > max_bytes:
                    raise OutputTooLarge(process.command, max_bytes)
            return Completed(process.finish(accept), bytes(output))

    def text(self, *args: str | bytes | Path, stdin: bytes = b"") -> str:
        """Run one command and give its output, stripped: an id, a name, a count."""
        return self.run(*args, stdin=stdin).stdout.decode("utf-8", "replace").strip()

    def head(self, *args: str | bytes | Path, max_bytes: int) -> tuple[bytes, bool]:
        """The first `max_bytes` of a command's output, and whether there was more (then it was killed)."""
        output = bytearray()
        with _Process(self, args, stdin=b"", timeout_s=QUICK_S) as process:
            for chunk in process.chunks():
                output += chunk
                if len(output) > max_bytes:
                    return bytes(output[:max_bytes]), True
            process.finish((0,))
        return bytes(output), False

    def stream(
        self, *args: str | bytes | Path, stdin: bytes | IO[bytes] = b"", timeout_s: float = TRANSFER_S
    ) -> Generator[bytes]:
        """A command's output in chunks. Closing the iterator early kills the command.

        Raises GitFailed or GitTimedOut in the middle of the iteration, when the command does not end well.
        """
        with _Process(self, args, stdin=stdin, timeout_s=timeout_s) as process:
            yield from process.chunks()
            process.finish((0,))

    def objects(self, shas: list[str], *, timeout_s: float = TRANSFER_S) -> Generator[tuple[str, str, bytes]]:
        """Each object's id, kind and content, in the order asked for. All must exist. Raises as `stream`."""
        stream = self.stream(
            "cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in shas).encode(), timeout_s=timeout_s
        )
        buffer = bytearray()
        with contextlib.closing(stream):
            for _ in shas:
                while (end := buffer.find(b"\n")) < 0:
                    buffer += next(stream)
                sha, kind, size = buffer[:end].decode("ascii").split()
                rest = end + 1 + int(size)
                while len(buffer) <= rest:
                    buffer += next(stream)
                yield sha, kind, bytes(buffer[end + 1 : rest])
                del buffer[: rest + 1]

    def with_identity(self, author: Author, committer: Author) -> "Git":
        """The same, making commits in these names."""
        identity = {
            "GIT_AUTHOR_NAME": clean(author.name),
            "GIT_AUTHOR_EMAIL": clean(author.email),
            "GIT_COMMITTER_NAME": clean(committer.name),
            "GIT_COMMITTER_EMAIL": clean(committer.email),
        }
        return self.with_environment(identity)

    def with_environment(self, extra: Mapping[str, str]) -> "Git":
        """The same, with more variables, such as an index file of its own."""
        return replace(self, environment={**self.environment, **extra})

    def patient(self) -> "Git":
        """The same, giving way to others."""
        return replace(self, is_patient=True)


def clean(identity: str) -> str:
    """A name or address that git accepts in a commit: one line, no angle brackets, not empty."""
    kept = "".join(character for character in identity if character.isprintable() and character not in "<>")
    return kept.strip(" .,:;\"'\\")[:200] or "unknown"


class _Process:
    """One running git, its deadline, and its end: killed with all its children on the way out."""

    def __init__(
        self, git: Git, args: tuple[str | bytes | Path, ...], *, stdin: bytes | IO[bytes], timeout_s: float
    ) -> None:
        self.command = str(args[0])
        self._git = git
        self._args = args
        self._stdin = stdin
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def __enter__(self) -> "_Process":
        git = self._git
        where = ["--git-dir", str(git.git_dir)]
        if git.work_tree is not None:
            where += ["--work-tree", str(git.work_tree)]
        self._said: IO[bytes] = TemporaryFile()
        with _given(self._stdin) as stdin:
            # A session of its own, so that the helpers git starts can be killed with it.
            self._popen = subprocess.Popen(
                [*_PREFIX, "git", *_OPTIONS, *where, *self._args],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=self._said,
                cwd=git.work_tree or "/",
                env={**_ENVIRONMENT, **git.environment},
                start_new_session=True,
            )
        if git.is_patient:
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, self._popen.pid, _PATIENT)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._popen.stdout is not None
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._popen.stdout.close()
        self._said.close()

    def chunks(self) -> Iterator[bytes]:
        assert self._popen.stdout is not None
        fd = self._popen.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, self._deadline - time.monotonic())):
                    raise GitTimedOut(self.command, self._timeout_s)
                chunk = os.read(fd, CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def finish(self, accept: tuple[int, ...]) -> int:
        try:
            returncode = self._popen.wait(max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise GitTimedOut(self.command, self._timeout_s) from None
        if returncode not in accept:
            raise GitFailed(self.command, returncode, self._complaint())
        return returncode

    def _complaint(self) -> str:
        """The end of what the command said, which is where git puts the reason."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - 2000))
        return self._said.read().decode("utf-8", "replace").strip()


def _given(stdin: bytes | IO[bytes]) -> IO[bytes]:
    """What the command reads. A file, not a pipe, so that neither side can wait for the other."""
    if not isinstance(stdin, bytes):
        return os.fdopen(os.dup(stdin.fileno()), "rb")
    if not stdin:
        return open(os.devnull, "rb")
    file = TemporaryFile()  # noqa: SIM115 -- the caller closes it
    file.write(stdin)
    file.seek(0)
    return file
