"""One worker's machine: its directory and disk, its clock, and its way to the servers."""

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agents.machine import MB
from agents.runtimes import volumes
from eklavya.env import Env
from tests.chaos.engine import Engine
from tests.chaos.network import Wire

_CLOCK_SOURCE = Path(__file__).with_name("clock.c")
# What a machine's disk holds: small, so that it can be filled.
_DISK_MB = 256
# With containers each run, check and preview is promised 2 GB of it, and 1 GB stays free: a sparse file, of which
# little is ever written, but the disk below must be able to hold it.
_DISK_FOR_CONTAINERS_MB = 40 * 1024


class Way(Protocol):
    """What bytes between a machine and the servers go through."""

    def cut(self) -> None:
        """Let nothing pass, either way, and tell nobody."""

    def heal(self, *, reset: bool) -> None:
        """Let all pass again; with `reset` old connections are gone."""


@dataclass
class Machine:
    """One worker's machine."""

    name: str
    var: Path
    env: Env
    ways: Sequence[Way]
    clock: Path
    has_own_disk: bool
    wire: Wire | None = None
    """Where it has a network namespace of its own; its ways are this one then."""
    engine: Engine | None = None
    """Where it has a Docker daemon of its own."""

    @property
    def has_containers(self) -> bool:
        """Whether its agents are in containers."""
        return self.env.EKLAVYA_RUNTIME == "docker"

    @property
    def own_environment(self) -> dict[str, str]:
        """What its programs know besides: the daemon."""
        return {"DOCKER_HOST": self.engine.address} if self.engine else {}

    @property
    def namespace(self) -> str:
        """How the names of its containers begin (see `agents.sandboxes`)."""
        return f"eklavya-{hashlib.sha256(str(self.var.resolve()).encode()).hexdigest()[:8]}-"


def set_clock(clock: Path, seconds: int) -> None:
    """Put a machine's clock ahead, or behind: its programs see it at once."""
    with clock.open("r+b") as file:
        file.write(struct.pack("l", seconds))


def make_clock(path: Path) -> Path:
    """Make what `set_clock` writes."""
    path.write_bytes(bytes(struct.calcsize("l")))
    return path


def compiled_clock(directory: Path) -> Path | None:
    """Return the library by which a machine's clock is wrong; None where there is no C compiler."""
    compiler, library = shutil.which("cc"), directory / "clock.so"
    if compiler is None:
        return None
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_CLOCK_SOURCE), "-ldl"]
    return None if subprocess.run(command, capture_output=True, check=False).returncode else library


def make_disk(directory: Path, *, for_containers: bool) -> bool:
    """Make a machine's directory; return whether it has a small disk of its own, which takes root and room."""
    if for_containers and not volumes.why_not():
        volumes.make(
            directory, size_mb=min(_DISK_FOR_CONTAINERS_MB, shutil.disk_usage(directory.parent).free // MB // 2)
        )
        return True
    directory.mkdir(mode=0o700)
    if for_containers or os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=0700", "chaos", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
