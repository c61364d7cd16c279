"""What a daemon says of itself: whether sandboxes can rely on it, and what they must do without."""

import os
import re
import socket
import struct
from functools import cache
from pathlib import Path
from typing import Any

from agents.runtimes import firewall, volumes
from agents.runtimes.docker_dialect import Dialect
from agents.runtimes.docker_waiting import DEFAULT_HOST
from agents.runtimes.errors import RuntimeUnavailable
from agents.runtimes.ownership import sandbox_user

__all__ = ["check_daemon", "find_weaknesses", "shift_of", "why_no_disk_rate", "why_no_volumes"]

_REMAPPED_ROOT = re.compile(r"/(\d+)\.(\d+)/?")
_ROOTS_DAEMON = "point DOCKER_HOST at a daemon that runs as root, with seccomp and all cgroup controllers"
_CAP_SYS_RESOURCE = 24  # capabilities(7)
_LIMITS = {
    "MemoryLimit": "memory",
    "PidsLimit": "the number of processes",
    "CpuCfsQuota": "processor time",
}


def shift_of(info: dict[str, Any]) -> int:
    """How much higher uids inside are on the host, by `userns-remap`; 0 without. Raises RuntimeUnavailable.

    A daemon that maps users keeps its data in a directory named after the first uid and gid. Files are given to the
    uid that the sandbox's has on the host, which only root can.
    """
    features = _features(info)
    if "rootless" in features:
        raise RuntimeUnavailable("The daemon is rootless: host files have other owners inside.", fix=_ROOTS_DAEMON)
    if "userns" not in features:
        return 0
    found = _REMAPPED_ROOT.search(info.get("DockerRootDir", ""))
    if found is None or found[1] != found[2]:
        raise RuntimeUnavailable(
            "The daemon maps users in a way that is not known here.", fix="start the daemon with userns-remap=default"
        )
    if os.getuid() != 0:
        raise RuntimeUnavailable(
            "The daemon maps users, and only root can give files to whom it maps to.",
            fix="run as root, or point DOCKER_HOST at a daemon without userns-remap",
        )
    return int(found[1])


def check_daemon(info: dict[str, Any]) -> None:
    """Raise RuntimeUnavailable when the daemon cannot hold what a sandbox stands on."""
    if "seccomp" not in _features(info):
        raise RuntimeUnavailable("The daemon filters no system calls (seccomp).", fix=_ROOTS_DAEMON)
    missing = [what for key, what in _LIMITS.items() if info.get(key) is False]
    if missing:
        raise RuntimeUnavailable(
            f"The daemon cannot limit {', '.join(missing)}: its cgroups lack a controller.", fix=_ROOTS_DAEMON
        )


def find_weaknesses(info: dict[str, Any], dialect: Dialect) -> tuple[str, ...]:
    """Return what sandboxes of this daemon, on this host, do without."""
    found = []
    if problem := firewall.why_not():
        found.append(
            f"Sandboxes reach every port of this host that is bound to all addresses ({problem}): bind nothing there "
            "but the agent gateway, or let the worker run as root with iptables."
        )
    if not dialect.keeps_apart and (problem := firewall.why_not_apart()):
        found.append(
            f"Sandboxes of one project reach each other ({problem}): let the worker run as root, or use Docker."
        )
    if problem := why_no_volumes():
        found.append(
            f"What a sandbox writes is measured each second and not held by the kernel ({problem}): run the worker as "
            "root on the host itself."
        )
    if problem := why_no_disk_rate(info, dialect):
        found.append(
            f"What a sandbox reads and writes in a second is not limited ({problem}): a busy disk slows others down."
        )
    if not _keeps_oom_order():
        found.append(
            "When this machine itself runs out of memory, sandboxes need not go first (the daemon lacks "
            "CAP_SYS_RESOURCE): run no more at once than its memory holds beside everything else, at their limits."
        )
    if info.get("SwapLimit") is False:
        found.append("A sandbox may use swap beyond its memory: start the kernel with swapaccount=1, or without swap.")
    if "userns" not in _features(info):
        found.append(_unmapped(dialect))
    return tuple(found)


def _unmapped(dialect: Dialect) -> str:
    uid, _ = sandbox_user()
    if os.getuid() != 0:
        return (
            f"Uid {uid} inside is this user on the host, who owns Eklavya's data: run as root, with {dialect.mapped}."
        )
    return f"Uid {uid} inside is uid {uid} on the host: use {dialect.mapped}."


def why_no_volumes() -> str:
    """Return why what is mounted here does not hold containers; empty when it does."""
    return volumes.why_not() or ("" if _shares_mounts() else "the daemon does not see the mounts that are made here")


def why_no_disk_rate(info: dict[str, Any], dialect: Dialect) -> str:
    """Return why the daemon cannot limit what a sandbox reads and writes in a second; empty when it can."""
    # Docker says so of kernels and cgroups without the throttle, then leaves the limit out.
    if not dialect.throttles or any("bps" in str(warning).lower() for warning in info.get("Warnings") or ()):
        return "the kernel, or the daemon's cgroup, has no throttle of block devices"
    return why_no_volumes()


def _shares_mounts() -> bool:
    """Whether the daemon's mount namespace is ours: a worker in a container has one of its own."""
    try:
        return _is_namespace_of_daemon()
    except OSError:  # not here, or not ours to see
        return False


def _keeps_oom_order() -> bool:
    """Whether the kernel refuses sandboxes to take their oom_score_adj back: the daemon may raise its floor."""
    try:
        return _may_daemon_raise_floor()
    except OSError:
        return False


# What a daemon said is remembered for good; that it was away is not.
@cache
def _is_namespace_of_daemon() -> bool:
    return os.readlink(f"/proc/{_daemon_pid()}/ns/mnt") == os.readlink("/proc/self/ns/mnt")


@cache
def _may_daemon_raise_floor() -> bool:
    status = Path(f"/proc/{_daemon_pid()}/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective, 16) >> _CAP_SYS_RESOURCE & 1)


def _daemon_pid() -> int:
    """Return the daemon's process. Raises OSError where it is on no socket of this machine."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect((os.environ.get("DOCKER_HOST") or DEFAULT_HOST).removeprefix("unix://"))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])


def _features(info: dict[str, Any]) -> set[str]:
    """The names of SecurityOptions: "name=seccomp,profile=default", or "seccomp" of older and other daemons."""
    listed = info.get("SecurityOptions") or ()
    return {option.split(",")[0].removeprefix("name=") for option in listed}
