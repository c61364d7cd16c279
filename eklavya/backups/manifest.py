"""What a backup says of itself: what is in it, from when, and the digest of each file. It is written last."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

FORMAT = 2
_READ = (1, FORMAT)
NAME = "manifest.json"
DATABASE = "database.dump"
KEYS = "keys.json"
_CHUNK = 1 << 20


class BackupProblem(Exception):
    """It cannot be done, and nothing was changed unless the message says so. A sentence that says what to do."""


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`."""

    format: int
    made_at: str
    """ISO 8601, UTC: everything in the backup is as it was then."""
    migrations: list[str]
    """"app.name" of each that had run."""
    repositories: dict[str, dict[str, str]]
    """Project id -> reference -> commit."""
    files: dict[str, str]
    """Path in the backup -> SHA-256."""
    moved: list[str] = field(default_factory=list)
    """Projects whose references moved while the database was looked at: they may be a moment further than it."""

    def write(self, directory: Path) -> None:
        """Write it: from here on the backup counts as whole."""
        (directory / NAME).write_text(json.dumps(asdict(self), indent=1, sort_keys=True), encoding="utf-8")

    @property
    def has_keys(self) -> bool:
        """Whether the installation's keys are in it."""
        return KEYS in self.files


def bundle_name(project_id: str) -> str:
    """Where a repository is in a backup."""
    return f"repositories/{project_id}.bundle"


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def read(directory: Path) -> Manifest:
    """Return the manifest of a whole backup, each file of which is as it was written. Raises BackupProblem."""
    try:
        content = json.loads((directory / NAME).read_text(encoding="utf-8"))
        if content["format"] not in _READ:
            raise BackupProblem(
                f"{directory} has format {content['format']}: restore it with the Eklavya that made it."
            )
        manifest = Manifest(**content)
    except FileNotFoundError:
        raise BackupProblem(f"{directory} is no whole backup: it has no {NAME}, which is written last.") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BackupProblem(f"{directory / NAME} cannot be read: {error}.") from error
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise BackupProblem(f"{path} is missing.")
        if digest(path) != expected:
            raise BackupProblem(f"{path} is not as it was written: take another backup.")
    return manifest
