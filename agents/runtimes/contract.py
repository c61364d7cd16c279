"""The contract between the platform and whatever runs an agent's processes.

A *sandbox* is the place where one thing runs: a run's CLI, a verification's test command, a demo's preview.
It has a name that the caller chose, and belongs to a project. It has no object here: the platform may be
killed at any moment, and the next process must find every sandbox again by asking the runtime. So each
method takes a specification or a name, looks at the world, and never relies on what an earlier call left in
memory. Two `Runtime` objects with the same constructor arguments, in two processes, are the same runtime.

The life of a name:

    free ── launcher(), then the script is started ──> alive ── the process ends ──> ended ── kill() ──> free
    free ── start() ─────────────────────────────────> alive ── the command ends ──> ended ── kill() ──> free
    free ── run() ... returns ───────────────────────> free

`kill` is always allowed and always ends in *free*; whoever starts a sandbox calls it in a `finally`, and a
periodic sweep calls it for each name of `list_sandboxes` that no running row owns. What an *ended* sandbox
left (a log, an address) is cleared by the next launcher, run or start of that name too.

All methods block, may be called from several threads, and raise only `RuntimeProblem`
(agents/runtimes/errors.py) where the docstring names no other error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

from agents.runtimes.errors import InvalidSpec

__all__ = [
    "RESERVED_ENV",
    "CommandResult",
    "Limits",
    "Mount",
    "Networked",
    "Promising",
    "Runtime",
    "RuntimeName",
    "RuntimeStatus",
    "SandboxSpec",
    "Served",
    "ServiceHandle",
    "check_name",
]

RuntimeName = Literal["docker", "local"]

RESERVED_ENV = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "EKLAVYA_SANDBOX"})
"""Variables that the runtime sets itself; a specification may not."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,61}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_name(name: str) -> None:
    """Raise InvalidSpec unless `name` may name a sandbox or a project: a-z, 0-9, hyphens, at most 62.

    It becomes part of a container's name, a network's name and a file's path, unescaped.
    """
    if not _NAME.fullmatch(name):
        raise InvalidSpec(f"{name!r} is no name of a sandbox or project: use a-z, 0-9 and hyphens, at most 62")


@dataclass(frozen=True)
class Mount:
    """One more directory or file of the host inside the sandbox. It must exist when the sandbox starts."""

    host: Path
    inside: str
    """Absolute path inside; also within the workspace: `docs/` read-write over a read-only workspace."""
    read_only: bool = True

    def __post_init__(self) -> None:
        if not self.host.is_absolute() or not self.inside.startswith("/"):
            raise InvalidSpec(f"a mount needs absolute paths: {self.host} at {self.inside}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one sandbox may use. `local` keeps to file_mb and timeouts only, and says so in its `check`."""

    memory_mb: int = 2048
    """With tmpfs, without swap. Beyond it the kernel kills within the sandbox. The CLI itself needs 400."""
    cpus: float = 1.0
    pids: int = 512
    """Processes and threads together."""
    file_mb: int = 2048
    """The largest single file that may be written."""
    tmp_mb: int = 512
    """Size of /tmp, where it is the sandbox's own."""
    disk_mb: int = 2048
    """What workspace and home may hold together. Held by whoever makes the directories (`volumes`), else watched."""
    disk_mb_s: int = 100
    """What may be read from the disk, and written to it, in a second: each. Held where the directories are volumes."""
    files: int = 4096
    """Open files of one process."""

    def __post_init__(self) -> None:
        if min(astuple(self)) <= 0:
            raise InvalidSpec(f"limits must be positive: {self}")


@dataclass(frozen=True, kw_only=True)
class SandboxSpec:
    """Everything that decides what runs may see and use; InvalidSpec where it contradicts itself."""

    name: str
    """Unique among the sandboxes that are not free; see `check_name`."""
    project: str
    """Short id of the project; names its network."""
    workspace: Path
    """Existing host directory: the checkout, and the working directory inside.

    With docker as root its files are given to the sandbox's uid, so it must share no hard links with
    anything outside (`git clone --no-hardlinks`).
    """
    home: Path
    """Existing host directory, read-write: HOME inside. Kept by the caller between runs, or not."""
    control: Path
    """Host directory for the launcher and its secrets; made 0700. Never inside workspace or home."""
    read_only_workspace: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment, apart from RESERVED_ENV. Values hold no line breaks."""
    mounts: tuple[Mount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    labels: Mapping[str, str] = field(default_factory=dict)
    """The caller's own marks, found again by `list_sandboxes`."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_name(self.project)
        self._check_directories()
        self._check_env()
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))

    def _check_directories(self) -> None:
        for directory in (self.workspace, self.home, self.control):
            if not directory.is_absolute():
                raise InvalidSpec(f"{directory} is not absolute")
        for seen in (self.workspace, self.home):
            # Whoever can write the launcher runs outside the sandbox.
            if self.control.resolve().is_relative_to(seen.resolve()):
                raise InvalidSpec(f"the control directory {self.control} lies inside {seen}")

    def _check_env(self) -> None:
        for key, value in self.env.items():
            if not _VARIABLE.fullmatch(key):
                raise InvalidSpec(f"{key!r} is no name of an environment variable")
            if key in RESERVED_ENV:
                raise InvalidSpec(f"{key} is set by the runtime")
            if any(character in value for character in "\n\r\0"):
                raise InvalidSpec(f"the value of {key} holds a line break")


@dataclass(frozen=True)
class RuntimeStatus:
    """Whether a runtime works on this machine."""

    available: bool
    detail: str
    """One sentence for people: what was found, or what is missing."""
    fix: str = ""
    """The command or step that mends it; empty when there is nothing to mend."""
    weaknesses: tuple[str, ...] = ()
    """What it should hold and cannot here, a sentence each with the way to mend it. Shown beside its work."""


@dataclass(frozen=True)
class CommandResult:
    """What a command did."""

    exit_code: int | None
    """0..255; 128 + n after signal n; None when it was killed for running too long."""
    output: str
    """The last bytes of stdout and stderr together, invalid UTF-8 replaced, cut at the front."""
    duration_s: float
    timed_out: bool = False


@dataclass(frozen=True)
class ServiceHandle:
    """A running service and where the host reaches it."""

    name: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"http://{self.host}:{self.port}"


class Runtime(Protocol):
    """One way to run sandboxes. Implementations: agents/runtimes/local.py, agents/runtimes/docker.py."""

    @property
    def name(self) -> RuntimeName:
        """Which implementation this is."""

    @property
    def isolated(self) -> bool:
        """Whether the kernel holds the boundary; False is shown as "not isolated" wherever its work is."""

    @property
    def complete_first(self) -> bool:
        """Whether workspace and home must hold all files when the launcher's script is started; else mounts alone."""

    def check(self) -> RuntimeStatus:
        """Look whether sandboxes can be started here and now. Changes nothing, and never raises."""

    # Where things are, seen from inside. Pure: nothing is looked at or changed.

    def workspace_path(self, spec: SandboxSpec) -> str:
        """The workspace as processes inside name it; the CLI's working directory."""

    def home_path(self, spec: SandboxSpec) -> str:
        """HOME as processes inside name it."""

    def mount_path(self, mount: Mount) -> str:
        """Where processes inside find it: `mount.inside`, or the host's path where nothing is mounted."""

    def cli_path(self, spec: SandboxSpec) -> str:
        """The Claude Code CLI as processes inside name it."""

    def host_address(self, project: str) -> str:
        """The IP address under which processes inside reach servers of the host.

        State left: with docker, the project's network exists (made if missing). Idempotent.
        The gateway must listen on all addresses: with Podman, that one is there while a sandbox is.
        """

    # Directories of the host for what sandboxes write.

    def make_directory(self, directory: Path, *, disk_mb: int) -> None:
        """Make a directory, for workspace, home and control, that holds no more than `disk_mb` where that can be had.

        Needs: it does not exist, but its parent may. Leaves: an empty directory, mode 0700. Errors: RuntimeUnavailable
        when the disk has no room for it beside what others were promised.
        """

    def remove_directory(self, directory: Path) -> None:
        """Remove a directory of `make_directory` with all in it, or any other. Idempotent. Its sandboxes are killed."""

    # Running things.

    def launcher(self, spec: SandboxSpec, program: str | None = None) -> Path:
        """Write an executable script into `spec.control` that runs `program` (default: the CLI) inside.

        Needs: nothing of the name is alive; workspace and home exist.
        Leaves: the script, mode 0700; nothing runs yet. A second call overwrites it, with the same effect.
        After `kill` the script refuses to run (exit code 125), so that a sandbox cannot come to life behind
        the sweep's back.

        The script passes its arguments, stdin, stdout, stderr and exit code through, starts in the workspace,
        with the specification's environment only (and the few variables in which claude-agent-sdk speaks to
        its CLI), in a session of its own. While it runs the name is alive; when it was killed with SIGKILL,
        call `kill` for what it leaves. Made for `ClaudeAgentOptions(cli_path=...)`, whose own `env` does not
        reach the CLI: put it into `spec.env`.

        Errors: SandboxBusy; InvalidSpec when a directory is missing or cannot be given to the sandbox's user.
        """

    def adopt(self, spec: SandboxSpec) -> None:
        """Give the sandbox what its caller has put into workspace and home since `launcher`. Idempotent.

        Errors: InvalidSpec when something there cannot be given to the sandbox's user.
        """

    def run(
        self, spec: SandboxSpec, command: str, *, timeout_s: float, max_output_bytes: int = 64_000
    ) -> CommandResult:
        """Run `command` with `sh -c` in the workspace, stdin empty, and wait for its end or for `timeout_s`.

        Needs: nothing of the name is alive; workspace and home exist.
        Leaves: the name free: whatever the command left in the background is killed, in either case.
        A failing command is a result, not an error. Output is bounded on the way, not only in the result.
        Errors: SandboxBusy, InvalidSpec, RuntimeUnavailable.
        """

    def start(self, spec: SandboxSpec, command: str, *, wait_s: float = 20.0) -> ServiceHandle:
        """Start `command` with `sh -c` as a service that outlives this process and listens at $HOST:$PORT.

        Needs: nothing of the name is alive; workspace and home exist; `spec.env` sets neither HOST nor PORT.
        Leaves: the name alive. Returns as soon as the service accepts a connection at the address returned,
        or after `wait_s` if its process still lives: whether it is healthy is the caller's question.
        Errors: SandboxBusy, InvalidSpec, RuntimeUnavailable; ServiceFailed when the command ended first
        (name free again).
        """

    # Looking at, and ending, what runs. Names that are free are no error.

    def service(self, name: str) -> ServiceHandle | None:
        """The address of a service, whichever process started it; None when it is not alive."""

    def is_alive(self, name: str) -> bool:
        """Whether any process of the sandbox exists."""

    def logs(self, name: str, *, tail: int = 200) -> str:
        """The last `tail` lines that a service wrote, also after its end, until `kill`; else empty."""

    def kill(self, name: str) -> None:
        """End every process of the sandbox (SIGKILL) and forget the name. Idempotent; directories stay.

        Every process means those too that changed their group or session. Returns when none is left.
        Errors: RuntimeProblem when something survives or the daemon does not answer: call again later.
        """

    def list_sandboxes(self, labels: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Names that are not free (alive or ended), whose labels include `labels`; sorted."""

    def list_projects(self) -> tuple[str, ...]:
        """Projects of which anything is left: a sandbox or a network; sorted."""

    def remove_project(self, project: str) -> None:
        """Kill every sandbox of the project, then remove its network. Idempotent; directories stay."""


@runtime_checkable
class Networked(Protocol):
    """A runtime that gives each project a network of the host's, of which there is not room for any number."""

    def remove_idle_networks(self, *, idle_s: float, busy: Collection[str] = ()) -> tuple[str, ...]:
        """Remove the networks of projects without a sandbox that were not asked for in `idle_s`; return those projects.

        `busy` projects keep theirs. Safe while sandboxes start: one that comes just then has the network made anew. One
        that is asked for by `host_address` keeps its address only for `idle_s`.
        """

    def remove_rules(self) -> None:
        """Take what was written into the host's packet filter out again. No sandbox of this installation may run."""


@runtime_checkable
class Served(Protocol):
    """A runtime whose sandboxes are made by a daemon, which may be away."""

    def ask(self, *, timeout_s: float) -> None:
        """Return when the daemon answers. Raises RuntimeProblem when it does not within `timeout_s`.

        Cheap: asked every few seconds. Whether sandboxes can rely on it is for `check`.
        """


@runtime_checkable
class Promising(Protocol):
    """A runtime that makes no sandbox for which the disk has no room, whatever the others write."""

    def promised_mb(self, root: Path, *, disk: Path | None = None) -> int | None:
        """Return how many megabytes (2^20 bytes) the sandboxes below a directory may still take of its disk, or
        of that which `disk` lies on. None where nothing is held for anybody."""
