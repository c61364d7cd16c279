"""Where things are on this machine: the runtime in use, the projects' repositories, the runs' directories."""

import hashlib
from functools import cache
from pathlib import Path
from uuid import UUID

from django.conf import settings

from agents.runtimes.contract import Runtime
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.local import LocalRuntime
from agents.runtimes.registry import Choice, choose, runtimes
from agents.workspace import Repository
from agents.workspace.values import Limits


def repository(project_id: UUID) -> Repository:
    """Return a project's canonical repository (it need not exist yet: `Repository.create` is idempotent)."""
    return repository_at(Path(settings.EKLAVYA_VAR) / "repositories" / f"{project_id}.git")


def repository_at(path: Path) -> Repository:
    """Return a canonical repository that lies elsewhere, such as one on its way back from a backup."""
    limits = Limits(
        max_files=settings.EKLAVYA_MAX_FILES,
        max_change_bytes=settings.EKLAVYA_MAX_CHANGE_MB * 1_000_000,
        # Git's objects are read up to this; the gate then says of each file above the limit how large it is.
        max_file_bytes=5 * settings.EKLAVYA_MAX_FILE_MB * 1_000_000,
    )
    return Repository(path, limits)


def run_directory(run_id: UUID) -> Path:
    """Return the directory of a run: `workspace`, `home` and `control` are below it."""
    return Path(settings.EKLAVYA_VAR) / "runs" / str(run_id)


def make_private(directory: Path) -> Path:
    """Make a directory into which nobody but the platform's own user sees, or make it such; return it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    return directory


def network_name(project_id: UUID) -> str:
    """Return the short id under which runtimes know a project. The random part of a UUIDv7 is at its end."""
    return f"p{project_id.hex[-12:]}"


@cache
def choice() -> Choice:
    """Return the runtime in use and why it is; chosen once per process.

    Raises RuntimeUnavailable, saying what to do, when the one asked for does not work. Without isolation a real model
    is only used when `EKLAVYA_ALLOW_LOCAL_RUNTIME` says so; the rehearsal model's agents are ours.
    """
    return choose(
        settings.EKLAVYA_RUNTIME,
        state_dir=Path(settings.EKLAVYA_VAR) / "sandboxes",
        image=settings.EKLAVYA_IMAGE,
        namespace=_namespace(),
        allow_local=settings.EKLAVYA_ALLOW_LOCAL_RUNTIME or settings.EKLAVYA_MODEL_MODE == "rehearsal",
        host_ports=(settings.EKLAVYA_GATEWAY_PORT, settings.EKLAVYA_EGRESS_PORT),
    )


def runtime() -> Runtime:
    """Return the runtime in use. Raises RuntimeUnavailable as `choice`."""
    return choice().runtime


def every_runtime() -> tuple[DockerRuntime, LocalRuntime]:
    """Return the runtimes that this installation may ever have used: what was chosen once need not be so now."""
    return runtimes(
        state_dir=Path(settings.EKLAVYA_VAR) / "sandboxes", image=settings.EKLAVYA_IMAGE, namespace=_namespace()
    )


def _namespace() -> str:
    """Name this installation among those that share a Docker daemon: by where its data is."""
    where = hashlib.sha256(str(Path(settings.EKLAVYA_VAR).resolve()).encode()).hexdigest()
    return f"eklavya-{where[:8]}"
