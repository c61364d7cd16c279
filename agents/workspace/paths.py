"""Whether what a run changed may become part of main."""

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agents.workspace import names
from agents.workspace.git import Git
from agents.workspace.values import Violation

_ZERO = "0" * 40
_SYMLINK = "120000"
_GITLINK = "160000"
_MAX_ATTRIBUTES_BYTES = 1_000_000
_MAX_TARGET_BYTES = 4096
# What HFS+ drops from names when it compares them, so that ".g\u200cit" would be ".git" there.
_IGNORABLE = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_FILTER = re.compile(rb"(?:^|\s)filter(?:=|\s|$)", re.MULTILINE)


@dataclass(frozen=True)
class PathPolicy:
    """Which paths a role may change. `**` stands for any depth, `*` and `?` stop at a slash."""

    allowed: tuple[str, ...]
    max_file_bytes: int = 10_000_000

    def allows(self, path: str) -> bool:
        """Whether one of the patterns covers the path."""
        return any(_glob(pattern).fullmatch(path) for pattern in self.allowed)


class _Change(NamedTuple):
    raw: bytes
    mode: str
    sha: str

    @property
    def path(self) -> str:
        return names.printable(self.raw)

    @property
    def is_deletion(self) -> bool:
        return self.sha == _ZERO


def check_paths(git: Git, base: str, commit: str, *, policy: PathPolicy) -> list[Violation]:
    """Every reason why the change from base to commit may not be merged; empty when there is none.

    A path that is deleted counts as changed. Content is looked at only where a path's meaning lies in it: links
    and attributes.
    """
    listed = git.run("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", base, commit).stdout
    changes = list(_parse(listed))
    kept = [change for change in changes if not change.is_deletion]
    violations = [violation for change in changes for violation in _outside(change, policy)]
    violations += [violation for change in kept for violation in _check_name(change)]
    violations += [violation for change in kept for violation in _check_content(git, change)]
    violations += _check_sizes(git, kept, policy.max_file_bytes)
    violations += _check_collisions(git, commit, kept)
    return violations


def _parse(raw: bytes) -> Iterator[_Change]:
    fields = raw.split(b"\0")
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        _, mode, _, sha, _ = meta.decode("ascii").split(" ")
        yield _Change(path, mode, sha)


def _outside(change: _Change, policy: PathPolicy) -> Iterator[Violation]:
    if not policy.allows(change.path):
        places = ", ".join(policy.allowed) or "nothing"
        yield Violation(change.path, "outside", f"{change.path} is not this role's to change; it may change {places}.")


def _check_name(change: _Change) -> Iterator[Violation]:
    path = change.path
    try:
        decoded = change.raw.decode("utf-8")
    except UnicodeDecodeError:
        yield Violation(path, "encoding", f"The name {path} is not UTF-8.")
        return
    if any(unicodedata.category(character) == "Cc" for character in decoded):
        yield Violation(ascii(path), "control", f"The name {path!a} has control characters.")
    for part in decoded.split("/"):
        if part in ("", ".", ".."):
            yield Violation(path, "traversal", f"{path} has a part that leads elsewhere ({part!r}).")
        elif _is_dot_git(part):
            yield Violation(path, "dot-git", f"{path} would be part of a Git directory when checked out.")
    if decoded.rpartition("/")[2].lower() == ".gitmodules":
        yield Violation(path, "submodule", f"{path} declares submodules, which are not used here.")


def _is_dot_git(part: str) -> bool:
    """Whether some file system would take the name for `.git`: case, trailing dots, short names, invisible marks."""
    plain = part.translate(_IGNORABLE).split(":")[0].rstrip(". ").lower()
    return plain in (".git", "git~1")


def _check_content(git: Git, change: _Change) -> Iterator[Violation]:
    if change.mode == _GITLINK:
        sentence = f"{change.path} is a submodule (a repository within the repository); add its files instead."
        yield Violation(change.path, "submodule", sentence)
    elif change.mode == _SYMLINK:
        yield from _check_link(change, git.head("cat-file", "blob", change.sha, max_bytes=_MAX_TARGET_BYTES)[0])
    elif change.raw.rpartition(b"/")[2].lower() == b".gitattributes":
        content, _ = git.head("cat-file", "blob", change.sha, max_bytes=_MAX_ATTRIBUTES_BYTES)
        if _FILTER.search(content):
            sentence = f"{change.path} sets a filter, which would run a program on checkout."
            yield Violation(change.path, "filter", sentence)


def _check_link(change: _Change, target: bytes) -> Iterator[Violation]:
    shown = names.printable(target)
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(change.path), shown))
    if shown.startswith("/") or resolved == ".." or resolved.startswith("../"):
        yield Violation(change.path, "symlink", f"The link {change.path} leads out of the repository, to {shown}.")
    elif any(_is_dot_git(part) for part in shown.split("/")):
        yield Violation(change.path, "symlink", f"The link {change.path} leads into the Git directory.")


def _check_sizes(git: Git, changes: list[_Change], max_file_bytes: int) -> Iterator[Violation]:
    files = [change for change in changes if change.mode != _GITLINK]
    asked = "".join(f"{change.sha}\n" for change in files).encode()
    sizes = git.run("cat-file", "--batch-check=%(objectsize)", stdin=asked).stdout.split() if files else []
    for change, size in zip(files, sizes, strict=True):
        if int(size) > max_file_bytes:
            sentence = f"{change.path} has {int(size):,} bytes; at most {max_file_bytes:,} are allowed."
            yield Violation(change.path, "size", sentence)


def _check_collisions(git: Git, commit: str, changes: list[_Change]) -> Iterator[Violation]:
    """Paths that a file system without case, or one that composes accents, would take for the same."""
    listed = git.run("ls-tree", "-r", "-z", "--name-only", commit).stdout
    seen: dict[str, set[str]] = {}
    for path in (names.printable(raw) for raw in listed.split(b"\0") if raw):
        for prefix in _prefixes(path):
            seen.setdefault(_folded(prefix), set()).add(prefix)
    for path in (change.path for change in changes):
        for prefix in _prefixes(path):
            others = sorted(seen[_folded(prefix)] - {prefix})
            if others:
                sentence = f"{prefix} and {others[0]} are the same name where case does not count."
                yield Violation(path, "case", sentence)
                break


def _prefixes(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[: length + 1]) for length in range(len(parts)))


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _glob(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(special.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)
