"""Questions that pages ask of a repository. Commits are full ids; paths are inside the commit, "" is its root."""

from collections.abc import Iterator

from agents.workspace import names
from agents.workspace.errors import GitFailed, PathNotFound
from agents.workspace.git import Git
from agents.workspace.merging import check_commit, head
from agents.workspace.values import Diff, EntryKind, FileChange, FileContent, LogEntry, TreeEntry

_LOG_FORMAT = "%H%x00%P%x00%an%x00%ae%x00%at%x00%s%x00%b%x00"
_LOG_FIELDS = 7
_KINDS: dict[str, EntryKind] = {"040000": "directory", "120000": "symlink", "160000": "submodule"}
_BINARY_BYTES = 8000
# Diffs are shown, never executed: no external program, no conversion named by an attribute.
_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--submodule=short")


def log(git: Git, limit: int, *, before: str | None = None, commit: str | None = None) -> list[LogEntry]:
    """The newest `limit` commits of main (or of `commit`), or those that come after `before` in that order.

    Raises UnknownCommit.
    """
    start = check_commit(git, commit) if commit else head(git)
    skip = 0 if before is None else _position(git, start, check_commit(git, before)) + 1
    output = git.run("log", f"--format={_LOG_FORMAT}", f"--max-count={limit}", f"--skip={skip}", start, "--").stdout
    fields = output.decode("utf-8", "replace").split("\0")
    return [_entry(fields[at : at + _LOG_FIELDS]) for at in range(0, len(fields) - _LOG_FIELDS, _LOG_FIELDS)]


def _position(git: Git, start: str, commit: str) -> int:
    # `log` and `rev-list` walk in the same order, so a position in one is a position in the other.
    for position, line in enumerate(git.text("rev-list", start).split("\n")):
        if line == commit:
            return position
    return -1


def _entry(fields: list[str]) -> LogEntry:
    commit, parents, author, email, timestamp_s, subject, body = fields
    return LogEntry(commit.strip(), tuple(parents.split()), author, email, int(timestamp_s), subject, body.strip())


def tree(git: Git, commit: str, *, path: str = "") -> list[TreeEntry]:
    """What a directory holds: directories first, then by name. Raises UnknownCommit, PathNotFound."""
    path = names.check_path(path)
    place = f"{check_commit(git, commit)}:{path}"
    try:
        listed = git.run("ls-tree", "-z", "--long", names.to_bytes(place)).stdout
    except GitFailed as exc:
        raise PathNotFound(commit, path) from exc
    entries = [_tree_entry(line, path) for line in listed.split(b"\0") if line]
    return sorted(entries, key=lambda entry: (entry.kind != "directory", entry.name))


def _tree_entry(line: bytes, directory: str) -> TreeEntry:
    meta, _, raw = line.partition(b"\t")
    mode, _, sha, size = meta.decode("ascii").split()
    name = names.printable(raw)
    return TreeEntry(
        name=name,
        path=f"{directory}/{name}" if directory else name,
        kind=_KINDS.get(mode, "file"),
        executable=mode == "100755",
        size_bytes=int(size) if size.isdigit() else None,
        sha=sha,
    )


def file(git: Git, commit: str, *, path: str, max_bytes: int) -> FileContent:
    """A file's beginning, up to `max_bytes`; for a link, where it leads. Raises UnknownCommit, PathNotFound."""
    path = names.check_path(path)
    listing = ("ls-tree", "-z", "--long", check_commit(git, commit), "--", names.to_bytes(path))
    listed = git.run(*listing).stdout if path else b""
    entries = [_tree_entry(line, "") for line in listed.split(b"\0") if line]
    if len(entries) != 1 or entries[0].size_bytes is None:
        raise PathNotFound(commit, path)
    entry = entries[0]
    data, truncated = git.head("cat-file", "blob", entry.sha, max_bytes=max_bytes)
    assert entry.size_bytes is not None
    return FileContent(path, data, entry.size_bytes, truncated, b"\0" in data[:_BINARY_BYTES], entry.kind)


def diff(git: Git, base: str, commit: str, *, max_bytes: int, path: str = "") -> Diff:
    """What changed from base to commit (at and below `path`), renames found. Raises UnknownCommit."""
    where = () if not path else ("--", names.to_bytes(names.check_path(path)))
    args = ("diff-tree", "-r", "--patch", *_DIFF, check_commit(git, base), check_commit(git, commit), *where)
    output, truncated = git.head(*args, max_bytes=max_bytes)
    return Diff(output.decode("utf-8", "replace"), truncated)


def diff_stat(git: Git, base: str, commit: str) -> list[FileChange]:
    """How much changed in which file, renames found. Raises UnknownCommit."""
    args = ("diff-tree", "-r", "--numstat", "-z", *_DIFF, check_commit(git, base), check_commit(git, commit))
    return list(_changes(git.run(*args).stdout))


def _changes(output: bytes) -> Iterator[FileChange]:
    """Lines are `added TAB deleted TAB path NUL`; a renamed file has an empty path and two more fields."""
    fields = iter(output.split(b"\0"))
    for field in fields:
        if not field:
            return
        added, deleted, path = field.split(b"\t", 2)
        old = None if path else next(fields)
        yield FileChange(
            path=names.printable(path or next(fields)),
            old_path=None if old is None else names.printable(old),
            added=_count(added),
            deleted=_count(deleted),
        )


def _count(field: bytes) -> int | None:
    return None if field == b"-" else int(field)
