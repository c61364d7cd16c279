"""Reading a backup into an installation of which nothing works meanwhile.

All that can fail comes first: digests, room, the repositories, into a directory beside the present ones, and whether
those can change places. Then the database is replaced in one transaction, and the repositories change places by
renames: two where their directory can be renamed, one for each of them where it is mounted.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Place:
    """The directory of the repositories, and where others can wait that will be in it by a rename."""

    present: Path
    is_fixed: bool
    """It cannot be renamed, being mounted: what waits, and what is put aside, is inside of it."""

    @property
    def staged(self) -> Path:
        """Where the backup's repositories wait."""
        return self.present / ".restored" if self.is_fixed else self.present.with_name("repositories.restored")

    def aside(self, now: datetime) -> Path:
        """Where those go that are there now."""
        name = f"before-{now:%Y%m%d-%H%M%S}"
        return self.present / f".{name}" if self.is_fixed else self.present.with_name(f"repositories.{name}")

    def moves(self, now: datetime) -> Iterator[tuple[Path, Path]]:
        """Yield each rename, from where to where, in their order."""
        aside = self.aside(now)
        if self.is_fixed:
            yield from ((path, aside / path.name) for path in sorted(self.present.glob("*.git")))
            yield from ((path, self.present / path.name) for path in sorted(self.staged.iterdir()))
            return
        if self.present.exists() and any(self.present.iterdir()):
            yield self.present, aside
        yield self.staged, self.present  # also over one that is empty


def restore(directory: Path, *, url: str, replace: bool, now: datetime, report: Report) -> Manifest:
    """Make this installation's database and repositories those of a backup. Raises BackupProblem.

    One that holds something already is refused unless `replace` is said; its repositories are kept beside the new ones.
    """
    backup = manifest.read(directory)
    report(f"backup of {backup.made_at}: {len(backup.repositories)} repositories, all files as they were written")
    _check_code(backup)
    var = Path(settings.EKLAVYA_VAR)
    _check_target(var, url, replace=replace)
    place = place_of(var / "repositories")
    scratch = var / "restore.sql"
    try:
        _stage(directory, backup, place.staged, report)
        connections.close_all()
        report("database …")
        database.load(url, directory / manifest.DATABASE, scratch=scratch)
    except BaseException:
        shutil.rmtree(place.staged, ignore_errors=True)
        raise
    finally:
        scratch.unlink(missing_ok=True)
    swap(place, now=now, report=report)
    database.analyze(url)
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


def place_of(repositories: Path) -> Place:
    """Find out how the repositories can be replaced, by trying. Raises BackupProblem when they cannot."""
    present = repositories.resolve()  # of a link, what it leads to is replaced
    probe = present.with_name("repositories.probe")
    try:
        if present.exists():
            present.rename(probe)
            probe.rename(present)
        place = Place(present, is_fixed=False)
    except OSError:  # a mount point is busy, or its parent is not ours to write to
        place = Place(present, is_fixed=True)
    try:
        shutil.rmtree(place.staged, ignore_errors=True)
        place.staged.mkdir(mode=0o700, parents=True)
        place.staged.rmdir()
    except OSError as error:
        raise BackupProblem(f"{present} cannot be replaced ({error.strerror}): make it this user's own.") from error
    return place


def swap(place: Place, *, now: datetime, report: Report) -> None:
    """Put the backup's repositories in place of those that are there. Raises BackupProblem, with none moved."""
    aside, done = place.aside(now), []
    try:
        if place.is_fixed:
            aside.mkdir(mode=0o700)
        for old, new in place.moves(now):
            old.rename(new)
            done.append((old, new))
    except OSError as error:
        for old, new in reversed(done):
            new.rename(old)
        with suppress(OSError):
            aside.rmdir()
        raise BackupProblem(
            f"The database is the backup's, and the repositories are not: {error}. Those of the backup are in "
            f"{place.staged}; put them into {place.present} by hand, or restore once more."
        ) from error
    if place.is_fixed:
        place.staged.rmdir()
    if aside.exists() and any(aside.iterdir()):
        report(f"the repositories that were there are in {aside}")
    elif aside.exists():
        aside.rmdir()
