"""This machine, as a worker reports it: who it is, what it has, how it is. No Django."""

import hashlib
import os
import platform
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from agents.runtimes.contract import Promising, Runtime

MB = 2**20
TOOLS = ("claude_code", "browser", "isolation")
"""What runs may want of their machine, and what their number at once may be limited by."""
_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@dataclass(frozen=True)
class Reading:
    """How a machine is right now. Percent of all cores; free megabytes (2^20 bytes); seconds its clock is behind.

    `runtime_problem`: why what runs agents there does not answer, in a sentence; empty when it does.
    `disk_promised_mb`: how much of what is free the sandboxes there may still take; None where nothing is promised.
    """

    cpu_percent: float
    memory_free_mb: int
    memory_mb: int
    disk_free_mb: int
    clock_behind_s: float = 0.0
    runtime_problem: str = ""
    disk_promised_mb: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return asdict(self)


def read(var: Path, *, of: Runtime | None, clock_behind_s: float = 0.0, runtime_problem: str = "") -> Reading:
    """Look at the machine, whose agents `of` runs. The use of its cores is that since the last look of this process.

    Its disk is that of the runs, which may be another than that of `var`.
    """
    memory = psutil.virtual_memory()
    disk = runs if (runs := var / "runs").exists() else var
    return Reading(
        cpu_percent=psutil.cpu_percent(),
        memory_free_mb=memory.available // MB,
        memory_mb=memory.total // MB,
        disk_free_mb=shutil.disk_usage(disk).free // MB,
        clock_behind_s=round(clock_behind_s, 1),
        runtime_problem=runtime_problem,
        disk_promised_mb=of.promised_mb(var, disk=disk) if isinstance(of, Promising) else None,
    )


def facts() -> dict[str, Any]:
    """Return what does not change while it runs."""
    return {
        "cpus": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // MB,
        "platform": platform.platform(),
    }


def tools(*, runtime: str, isolated: bool) -> list[str]:
    """Return what runs find on this machine, by the names that allocation asks for.

    The CLI comes with the SDK. A browser is in the sandbox's image, or else must be on the machine itself.
    """
    found = {"claude_code", runtime}
    if isolated or shutil.which("chromium"):
        found.add("browser")
    if isolated:
        found.add("isolation")
    return sorted(found)


def machine_id(var: Path, *, part: str) -> str:
    """Return an id that stays when the machine starts anew or gets another name.

    From the operating system's id, which is not for others, and so hashed with `part`, which tells installations on one
    machine apart; where there is none, from a file in `var`, made once.
    """
    for path in _IDS:
        try:
            if own := path.read_text(encoding="ascii").strip():
                return hashlib.sha256(f"eklavya:{own}:{part}".encode()).hexdigest()[:32]
        except (OSError, UnicodeDecodeError):
            continue
    kept = var / "machine_id"
    if not kept.exists():
        draft = kept.with_name(f".machine_id.{os.getpid()}")
        draft.write_text(uuid.uuid4().hex, encoding="ascii")
        try:
            os.link(draft, kept)  # of two first starts one wins
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return kept.read_text(encoding="ascii").strip()
