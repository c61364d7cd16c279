"""From a policy to what holds an agent: the CLI's tools, the sandbox's mounts and limits."""

from dataclasses import dataclass
from pathlib import Path

from agents.egress import EgressClass
from agents.roles.policy import EVERYTHING, Git, RolePolicy, Terminal
from agents.runtimes.contract import Limits, Mount
from agents.runtimes.errors import InvalidSpec

__all__ = ["BROWSER_SERVER", "Tools", "limits_of", "mounts_of", "tools_of"]

BROWSER_SERVER = "browser"
"""The MCP server inside the sandbox by which an agent without a terminal uses the product."""

_LOOK = ("Read", "Glob", "Grep")
_COMMANDS = {
    # Tests run whatever code they like: the list keeps an honest agent to its job, the sandbox holds any other.
    Terminal.TEST: ("python3", "pytest", "node", "npm test", "cd", "cp", "mkdir", "sleep", "kill"),
    Terminal.DIAGNOSTIC: ("python3", "ps", "free", "uptime", "sleep"),
}
# Reading is no more than the tools above give, in the words that agents know.
_READING = (
    *(
        "ls",
        "cat",
        "head",
        "tail",
        "wc",
        "sort",
        "uniq",
        "grep",
        "rg",
        "find",
        "diff",
        "du",
        "df",
        "stat",
        "file",
        "pwd",
    ),
    *("echo", "printf", "date", "true", "test", "cut", "sed -n"),
    *(f"git {verb}" for verb in ("status", "log", "diff", "show", "ls-files", "blame", "rev-parse", "fsck")),
)


@dataclass(frozen=True)
class Tools:
    """The CLI's built-in tools: `offered` to the model (--tools), and `allowed` to run (--allowedTools)."""

    offered: tuple[str, ...]
    allowed: tuple[str, ...]


def tools_of(policy: RolePolicy) -> Tools:
    """Return the tools of a policy. What is not named does not exist for the agent."""
    plain = list(_LOOK)
    if policy.writable:
        plain += ["Write", "Edit"]
    if policy.spawn:
        plain += ["Agent"]
    if policy.egress in {EgressClass.RESEARCH, EgressClass.FULL}:
        plain += ["WebFetch", "WebSearch"]
    if not policy.terminal:
        return Tools(tuple(plain), tuple(plain))
    return Tools((*plain, "Bash"), (*plain, *_commands(policy.terminal)))


def _commands(terminal: Terminal) -> tuple[str, ...]:
    if terminal is Terminal.FULL:
        return ("Bash",)
    names = {name for part in terminal for name in _COMMANDS.get(part, ())} | set(_READING)
    return tuple(f"Bash({name}:*)" for name in sorted(names))


def limits_of(policy: RolePolicy) -> Limits:
    """Return the cgroup's and the disk's limits of a policy."""
    of = policy.limits
    return Limits(
        memory_mb=of.memory_mb, cpus=of.cpus, pids=of.pids, disk_mb=of.disk_mb, file_mb=of.disk_mb, tmp_mb=of.tmp_mb
    )


def mounts_need_no_files(policy: RolePolicy) -> bool:
    """Return whether `mounts_of` is the same for an empty checkout as for any commit: no files, and no `.git`."""
    are_directories = all(root == EVERYTHING or root.endswith("/") for root in policy.writable)
    return are_directories and bool(policy.git) and (Git.WRITE in policy.git) == (EVERYTHING in policy.writable)


def mounts_of(policy: RolePolicy, clone: Path, *, inside: str, empty: Path) -> tuple[bool, tuple[Mount, ...]]:
    """Return whether the checkout is read-only, and what is mounted over it.

    State left: the directories that the role may write exist in the clone, so that there is something to mount.
    `empty` is an empty directory that stands for `.git` where the role may not read it. Raises InvalidSpec when a
    place to write in is a link: the host would follow it, to wherever an earlier agent had it lead.
    """
    read_only = EVERYTHING not in policy.writable
    mounts = [mount for root in sorted(policy.writable - {EVERYTHING}) if (mount := _writable(clone, root, inside))]
    if not policy.git:
        mounts.append(Mount(empty, f"{inside}/.git"))
    elif Git.WRITE not in policy.git and not read_only:
        mounts.append(Mount(clone / ".git", f"{inside}/.git"))
    elif Git.WRITE in policy.git and read_only:
        mounts.append(Mount(clone / ".git", f"{inside}/.git", read_only=False))
    return read_only, tuple(mounts)


def _writable(clone: Path, root: str, inside: str) -> Mount | None:
    """Mount one place to write in; None for a file that is not there, which nobody can make without its directory."""
    place = clone
    for part in root.rstrip("/").split("/"):
        place /= part
        if place.is_symlink():
            raise InvalidSpec(f"{place.relative_to(clone)} is a link in the repository; a role writes there")
    if root.endswith("/"):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSpec(f"{root} is no directory in the repository, and a role writes there") from error
    elif not place.is_file():
        return None
    return Mount(place, f"{inside}/{root.rstrip('/')}", read_only=False)
