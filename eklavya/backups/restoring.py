"""Reading a backup into an installation of which nothing works meanwhile.

All that can fail comes first: digests, room, the repositories, into a directory beside the present ones. Then the
database is replaced in one transaction, and the repositories change places by two renames.
"""

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from agents.sandboxes import repository_at
from agents.workspace.errors import WorkspaceError
from eklavya.backups import database, manifest
from eklavya.backups.manifest import BackupProblem, Manifest

Report = Callable[[str], None]


def restore(directory: Path, *, url: str, replace: bool, now: datetime, report: Report) -> Manifest:
    """Make this installation's database and repositories those of a backup. Raises BackupProblem.

    One that holds something already is refused unless `replace` is said; its repositories are kept beside the new ones.
    """
    backup = manifest.read(directory)
    report(f"backup of {backup.made_at}: {len(backup.repositories)} repositories, all files as they were written")
    _check_code(backup)
    var = Path(settings.EKLAVYA_VAR)
    _check_target(var, url, replace=replace)
    staged = var / "repositories.restored"
    scratch = var / "restore.sql"
    try:
        _stage(directory, backup, staged, report)
        connections.close_all()
        report("database …")
        database.load(url, directory / manifest.DATABASE, scratch=scratch)
        _swap(var / "repositories", staged, now=now, report=report)
        database.analyze(url)
    finally:
        scratch.unlink(missing_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
    report("database and repositories are in place")
    return backup


def _check_code(backup: Manifest) -> None:
    known = {f"{app}.{name}" for app, name in MigrationLoader(None, ignore_no_migrations=True).disk_migrations}
    if unknown := sorted(set(backup.migrations) - known):
        raise BackupProblem(f"The backup is of a newer Eklavya ({unknown[-1]}): update this one first.")


def _check_target(var: Path, url: str, *, replace: bool) -> None:
    if others := database.others_connected(url):
        raise BackupProblem(f"{others} others use the database: stop web, gateway, egress, workers and beat first.")
    if replace:
        return
    if not database.is_empty(url):
        raise BackupProblem("The database has tables already. Say --replace to lose what is in them.")
    repositories = var / "repositories"
    if repositories.is_dir() and any(repositories.glob("*.git")):
        raise BackupProblem(f"{repositories} has repositories already. Say --replace to have them put aside.")


def _stage(directory: Path, backup: Manifest, staged: Path, report: Report) -> None:
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(mode=0o700, parents=True)
    for number, (project_id, refs) in enumerate(backup.repositories.items(), 1):
        try:
            repository_at(staged / f"{project_id}.git").restore(directory / manifest.bundle_name(project_id), refs)
        except (OSError, WorkspaceError) as error:
            raise BackupProblem(f"The repository of project {project_id} cannot be restored: {error}") from error
        report(f"repository {number} of {len(backup.repositories)}")


def _swap(present: Path, staged: Path, *, now: datetime, report: Report) -> None:
    if present.exists() and any(present.iterdir()):
        aside = present.with_name(f"repositories.before-{now:%Y%m%d-%H%M%S}")
        present.rename(aside)
        report(f"the repositories that were there are in {aside}")
    elif present.exists():
        present.rmdir()
    staged.rename(present)
