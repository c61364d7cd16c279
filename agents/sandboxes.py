"""Where things are on this machine: the runtime in use, the projects' repositories, the runs' directories."""

from functools import cache
from pathlib import Path
from uuid import UUID

from django.conf import settings

from agents.runtimes.contract import Runtime
from agents.workspace import Repository


def repository(project_id: UUID) -> Repository:
    """Return a project's canonical repository (it need not exist yet: `Repository.create` is idempotent)."""
    return Repository(Path(settings.EKLAVYA_VAR) / "repositories" / f"{project_id}.git")


def run_directory(run_id: UUID) -> Path:
    """Return the directory of a run: `workspace`, `home` and `control` are below it."""
    return Path(settings.EKLAVYA_VAR) / "runs" / str(run_id)


def network_name(project_id: UUID) -> str:
    """Return the short id under which runtimes know a project. The random part of a UUIDv7 is at its end."""
    return f"p{project_id.hex[-12:]}"
