"""How a sandbox's container is confined: one table, written both for `docker run` and for the daemon's API.

The launcher must be a command (`docker run`), because claude-agent-sdk starts it and speaks to it through
pipes; all else goes through the API. Each row says the same thing in both languages, side by side, and why.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from docker.types import LogConfig, Ulimit
from docker.types import Mount as BindMount

from agents.runtimes.contract import Mount, SandboxSpec
from agents.runtimes.errors import InvalidSpec

__all__ = [
    "CLI",
    "HOME",
    "PATH",
    "TMP",
    "WORKSPACE",
    "Container",
    "Option",
    "check_paths",
    "log_config",
    "to_argv",
    "to_create",
]

WORKSPACE = "/workspace"
HOME = "/home/agent"
TMP = "/tmp"
CLI = "/opt/eklavya/claude"
PATH = "/usr/local/bin:/usr/bin:/bin"

_NO_IPV6 = "net.ipv6.conf.all.disable_ipv6"
_SHM = "64m"
_NO_DNS = "192.0.2.1"
"""An address reserved for documentation, which an internal network does not let through."""


class Option(NamedTuple):
    """One setting of a container."""

    argv: tuple[str, ...]
    """Flags of `docker run`."""
    create: dict[str, Any]
    """Arguments of docker-py's `containers.create`."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """What the options are made from, beside the specification."""

    spec: SandboxSpec
    name: str
    network: str
    user: tuple[int, int]
    cli: Path
    labels: dict[str, str]
    ulimits: Mapping[str, int] = field(default_factory=dict)
    """What the daemon has to be told beside the specification's limits."""
    device: str = ""
    """The block device that workspace and home lie on, where it is theirs alone."""

    def options(self) -> list[Option]:
        """The table."""
        return [*self._identity(), *self._privileges(), *self._limits(), *self._files(), *self._connections()]

    def _identity(self) -> list[Option]:
        labels = [f"--label={key}={value}" for key, value in self.labels.items()]
        return [
            # The daemon refuses a second one of the same name: the last word on "the name is free".
            Option(("--name", self.name), {"name": self.name}),
            # By which it is found again, and swept up, when whoever started it is gone.
            Option(tuple(labels), {"labels": self.labels}),
            Option(("--hostname", "sandbox"), {"hostname": "sandbox"}),
            Option(("--workdir", WORKSPACE), {"working_dir": WORKSPACE}),
        ]

    def _privileges(self) -> list[Option]:
        user = f"{self.user[0]}:{self.user[1]}"
        return [
            # Not root, so that a hole in the kernel's namespaces is not yet root on the host.
            Option(("--user", user), {"user": user}),
            # An unprivileged program needs no capability; Docker's default leaves fourteen to a root inside.
            Option(("--cap-drop", "ALL"), {"cap_drop": ["ALL"]}),
            # No set-uid program gives any of them back. The default seccomp profile stays on.
            Option(("--security-opt", "no-new-privileges"), {"security_opt": ["no-new-privileges"]}),
            # Nothing of the image can be changed; what may be written is listed under files.
            Option(("--read-only",), {"read_only": True}),
        ]

    def _limits(self) -> list[Option]:
        limits = self.spec.limits
        memory = f"{limits.memory_mb}m"
        # The daemon refuses more processors than there are.
        cpus = min(limits.cpus, float(os.cpu_count() or 1))
        ulimits = {"core": 0, "fsize": limits.file_mb * 2**20, "nofile": limits.files, **self.ulimits}
        return [
            Option(("--memory", memory), {"mem_limit": memory}),
            # The same number: no swap, which would slow every other sandbox down.
            Option(("--memory-swap", memory), {"memswap_limit": memory}),
            Option(("--cpus", f"{cpus:g}"), {"nano_cpus": int(cpus * 1e9)}),
            # A fork bomb ends here.
            Option(("--pids-limit", str(limits.pids)), {"pids_limit": limits.pids}),
            # No core dumps, which would fill the workspace; no endless files; the kernel's table of open files is
            # everybody's.
            Option(
                tuple(flag for name, value in ulimits.items() for flag in ("--ulimit", f"{name}={value}")),
                {"ulimits": [Ulimit(name=name, soft=value, hard=value) for name, value in ulimits.items()]},
            ),
            # Shared memory is a tmpfs as well; it counts as memory.
            Option(("--shm-size", _SHM), {"shm_size": _SHM}),
            # When the host runs out of memory the kernel takes an agent, not the database.
            Option(("--oom-score-adj", "500"), {"oom_score_adj": 500}),
            # An init that reaps what agents' daemons leave, and passes signals on to a CLI that is not
            # process 1.
            Option(("--init",), {"init": True}),
            *self._disk_rate(),
        ]

    def _disk_rate(self) -> list[Option]:
        """The disk is everybody's: who reads or writes without end waits for itself, not the database for it."""
        if not self.device:
            return []
        rate = self.spec.limits.disk_mb_s * 2**20
        made = [{"Path": self.device, "Rate": rate}]
        return [
            Option(("--device-read-bps", f"{self.device}:{rate}"), {"device_read_bps": made}),
            Option(("--device-write-bps", f"{self.device}:{rate}"), {"device_write_bps": made}),
        ]

    def _files(self) -> list[Option]:
        tmp = f"rw,nosuid,nodev,exec,mode=1777,size={self.spec.limits.tmp_mb}m"
        mounts = [
            Mount(self.spec.workspace, WORKSPACE, self.spec.read_only_workspace),
            Mount(self.spec.home, HOME, read_only=False),
            # From the host, so that an upgrade needs no new image, and read-only, so that no run changes
            # the next.
            Mount(self.cli, CLI),
            *self.spec.mounts,
        ]
        flags = [flag for mount in mounts for flag in ("--mount", _mount_flag(mount))]
        return [
            # In memory, bounded, gone with the container. exec: build tools run what they compile there,
            # and the workspace allows that anyway.
            Option(("--tmpfs", f"{TMP}:{tmp}"), {"tmpfs": {TMP: tmp}}),
            # --mount and not --volume: a missing directory is an error, not a new one that belongs to root.
            Option(tuple(flags), {"mounts": [_bind(mount) for mount in mounts]}),
        ]

    def _connections(self) -> list[Option]:
        return [
            # The project's internal network. No port is published: the host reaches the container's own
            # address.
            Option(("--network", self.network), {"network": self.network}),
            # No second way around the rules that are written for the first.
            Option(
                ("--sysctl", f"{_NO_IPV6}=1"),
                {"sysctls": {_NO_IPV6: "1"}},
            ),
            # Older daemons answer names of the internet from the host's resolver even in an internal
            # network, and a name can carry secrets out (CVE-2024-29018); with a server of its own the query
            # stays inside, and fails.
            Option(("--dns", _NO_DNS), {"dns": [_NO_DNS]}),
            # And soon: by default a program waits 20 s for each name.
            Option(
                ("--dns-option", "timeout:1", "--dns-option", "attempts:1"),
                {"dns_opt": ["timeout:1", "attempts:1"]},
            ),
        ]


def to_argv(options: list[Option]) -> list[str]:
    """The table as flags of `docker run`."""
    return [flag for option in options for flag in option.argv]


def to_create(options: list[Option]) -> dict[str, Any]:
    """The table as arguments of `containers.create`."""
    return {key: value for option in options for key, value in option.create.items()}


def check_paths(spec: SandboxSpec) -> None:
    """Raise InvalidSpec where a daemon that cannot quote would mount something else than was asked for."""
    paths = [spec.workspace, spec.home, *(path for mount in spec.mounts for path in (mount.host, mount.inside))]
    for path in map(str, paths):
        if any(character in path for character in ',"'):
            raise InvalidSpec(f"{path} cannot be mounted by this daemon: it has a comma or a quote in its name")


def log_config(max_mb: int) -> LogConfig:
    """Logs that stay on disk until the container is removed, and never grow beyond twice `max_mb`."""
    return LogConfig(type=LogConfig.types.JSON, config={"max-size": f"{max_mb}m", "max-file": "2"})


def _mount_flag(mount: Mount) -> str:
    """The value of --mount: a line of CSV, so that a comma or a quote in a path stays part of it."""
    fields = ["type=bind", f"source={mount.host}", f"target={mount.inside}"]
    if mount.read_only:
        fields.append("readonly")
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _bind(mount: Mount) -> BindMount:
    return BindMount(target=mount.inside, source=str(mount.host), type="bind", read_only=mount.read_only)
