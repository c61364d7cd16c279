"""The values that go into and come out of a repository. Data only."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

# What a test run, an editor or the CLI leaves behind and no project wants; a clone and the platform's own
# commits ignore it even where the project has no .gitignore.
LITTER = (
    "__pycache__/",
    "*.py[cod]",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".venv/",
    "node_modules/",
    ".DS_Store",
    "/.claude/",
    "/.eklavya/",
)


class Author(NamedTuple):
    """Who a commit is by."""

    name: str
    email: str


PLATFORM = Author("Eklavya", "platform@eklavya.invalid")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one run may bring. The host reads nothing beyond these from a clone."""

    max_entries: int = 500_000
    """Directory entries of the work tree, ignored ones included."""
    max_depth: int = 64
    """Directories within directories."""
    max_files: int = 50_000
    """Files of a commit."""
    max_file_bytes: int = 50_000_000
    """Any one file or Git object, uncompressed."""
    max_commit_bytes: int = 100_000
    """A commit: its message, mostly. Pages show many at once."""
    max_change_bytes: int = 500_000_000
    """All new objects of a run together, uncompressed."""
    max_objects: int = 100_000
    """New Git objects of a run."""
    max_store_bytes: int = 1_000_000_000
    """The clone's Git objects as they lie on disk."""


class Collected(NamedTuple):
    """A run's change, now in the canonical repository under refs/eklavya/runs/<run id>."""

    commit: str
    base: str
    """The commit of main that the run started from; always an ancestor of `commit`."""
    changed: tuple[str, ...]
    """Paths that differ between base and commit, for people: bytes that are not UTF-8 are escaped."""
    empty: bool
    """Nothing differs from the base."""
    leftovers: bool
    """The platform made the last commit itself, from what the run had not committed."""
    history_replaced: bool
    """The clone's history did not contain the base, so one commit of the final files stands for it."""


class Checkpoint(NamedTuple):
    """A snapshot of a clone: its commits and, on top, the state of its files."""

    ref: str
    commit: str
    tip: str
    """The commit that was checked out; `commit` is its child and carries the files."""


class Violation(NamedTuple):
    """One reason why a change may not be merged."""

    path: str
    rule: str
    """Short and stable, for programs."""
    sentence: str
    """For people."""


class MergeCandidate(NamedTuple):
    """A merge that is ready, but that main does not know of yet: `advance_main` makes it so."""

    commit: str
    parent: str
    """The commit that main must still be at."""
    fast_forward: bool
    """No merge commit was needed."""


class LogEntry(NamedTuple):
    """One commit, as a page shows it."""

    commit: str
    parents: tuple[str, ...]
    author: str
    email: str
    timestamp_s: int
    subject: str
    body: str


EntryKind = Literal["file", "directory", "symlink", "submodule"]


class TreeEntry(NamedTuple):
    """One line of a directory listing."""

    name: str
    path: str
    kind: EntryKind
    executable: bool
    size_bytes: int | None
    """None for directories and submodules."""
    sha: str


class FileContent(NamedTuple):
    """The beginning of a file, or all of it."""

    path: str
    data: bytes
    size_bytes: int
    truncated: bool
    binary: bool
    """A NUL byte among the first 8000, which is how Git decides too."""
    kind: EntryKind


class Diff(NamedTuple):
    """A unified diff; bytes that are not UTF-8 are replaced."""

    text: str
    truncated: bool


class FileChange(NamedTuple):
    """How many lines of a file changed; None for a binary file."""

    path: str
    old_path: str | None
    added: int | None
    deleted: int | None
