"""Making a backup, beside everything that works.

The database and the repositories are one state only together: a row says that a commit is in main. So the references
of all repositories are read before and after the database's snapshot is taken; a repository of which none moved is as
it was at the snapshot's moment. Their objects never change, so that they can be copied afterwards, in peace.

Where work goes on all the time some always moved. Of such a repository all references are taken that were there before
or after: whatever a row names was written before the row, and is in it. What it may have besides is what a row would
have named a moment later, as after a crash in that moment: `agents.actions.recovery` settles a merge that main has and
its run does not know of, and what no row knows of is there for the next run to find.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from agents.sandboxes import repository
from agents.workspace.errors import RepositoryMissing, WorkspaceError
from eklavya.backups import database, manifest
from eklavya.backups.database import Snapshot
from eklavya.backups.manifest import BackupProblem, Manifest

Report = Callable[[str], None]
AllRefs = dict[str, dict[str, str]]
# For a moment at which nothing moves.
_PATIENCE_S = 10.0


def make(directory: Path, *, url: str, now: datetime, keys: bytes | None, report: Report) -> Manifest:
    """Write a backup to a directory that is not there yet or empty, and return what is in it.

    `url` is the database, as a user who may read all of it; `keys` are sealed ones. Raises BackupProblem; then the
    directory has no manifest and is no backup.
    """
    _prepare(directory)
    with _moment(url, report) as (at, refs, moved):
        report("database …")
        database.dump(url, at, directory / manifest.DATABASE)
        report(f"database: {_size(directory / manifest.DATABASE)}")
        migrations = at.migrations()
    for number, (project_id, found) in enumerate(refs.items(), 1):
        _write_repository(directory / manifest.bundle_name(project_id), project_id, found)
        report(f"repository {number} of {len(refs)}: {_size(directory / manifest.bundle_name(project_id))}")
    if keys is not None:
        (directory / manifest.KEYS).write_bytes(keys)
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    digests = {str(path.relative_to(directory)): manifest.digest(path) for path in files}
    made_at = now.astimezone(UTC).isoformat(timespec="seconds")
    whole = Manifest(manifest.FORMAT, made_at, migrations, refs, digests, moved)
    whole.write(directory)
    return whole


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise BackupProblem(f"{directory} is not empty: name a directory of this backup's own.")
        directory.chmod(0o700)
        (directory / "repositories").mkdir()
    except OSError as error:
        raise BackupProblem(f"{directory} cannot be written: {error.strerror}.") from error


@contextmanager
def _moment(url: str, report: Report) -> Iterator[tuple[Snapshot, AllRefs, list[str]]]:
    """Hold a snapshot of the database, at best at a moment at which no reference of a repository moved.

    Yields it with the references, and the projects whose references moved all the same.
    """
    give_up = time.monotonic() + _PATIENCE_S
    with database.snapshot(url) as first:
        before = _refs(first.projects())
    while True:
        with database.snapshot(url) as at:
            after = _refs(at.projects())
            moved = [project_id for project_id, found in after.items() if found != before.get(project_id)]
            if not moved or time.monotonic() > give_up:
                report(f"{len(after) - len(moved)} repositories stand still, {len(moved)} are being worked in")
                yield at, {project_id: before.get(project_id, {}) | found for project_id, found in after.items()}, moved
                return
        before = after


def _refs(project_ids: list[str]) -> AllRefs:
    found = {}
    for project_id in project_ids:
        try:
            found[project_id] = repository(UUID(project_id)).refs()
        except RepositoryMissing:  # a project that no run began yet
            continue
    return found


def _write_repository(path: Path, project_id: str, refs: dict[str, str]) -> None:
    try:
        with path.open("wb") as file:
            repository(UUID(project_id)).write_backup(refs, file)
    except (OSError, WorkspaceError) as error:
        raise BackupProblem(f"The repository of project {project_id} could not be copied: {error}") from error


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f} MB"
