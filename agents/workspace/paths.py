"""Whether what a run changed may become part of main.

Each reason has a rule, for programs, and a sentence, which the next run gets to read:

outside     not the role's to change              encoding    the name is not UTF-8
control     marks in the name that hide it        traversal   a part of the path leads elsewhere
dot-git     a Git directory for some system       portable    a name that some system cannot have
length      too long or too deep to check out     case        two names that some system takes for one
submodule   .gitmodules, or a commit as a file    symlink     leads out, or stands for a file of Git's own
filter      attributes that run a program         attribute   attributes that change what is delivered
lfs         a pointer instead of a file           size        a file that is too large

Executable files are no reason: the bit gives nothing that `sh file` does not.
"""

import contextlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agents.workspace import names
from agents.workspace.errors import OutputTooLarge
from agents.workspace.git import Git
from agents.workspace.values import Violation

_ZERO = "0" * 40
_RAW = ("-r", "-z", "--raw", "--no-abbrev", "--no-renames")
_SYMLINK = "120000"
_GITLINK = "160000"
_MAX_ATTRIBUTES_BYTES = 1_000_000
_MAX_TARGET_BYTES = 4096
# What HFS+ drops from names when it compares them, so that ".g\u200cit" would be ".git" there.
_IGNORABLE = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
# Bidirectional marks and line separators, by which one name is shown as another; joiners are part of honest scripts.
_HIDING = frozenset(map(chr, [0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF]))
# Files that Git reads by itself. On NTFS they have short names too, the second by a hash of the first.
_OF_GIT = {
    ".gitmodules": re.compile(r"gitmod~[1-4]|gi7eba[~0-9]{2}"),
    ".gitattributes": re.compile(r"gitatt~[1-4]|gi7d29[~0-9]{2}"),
    ".gitignore": re.compile(r"gitign~[1-4]|gi250a[~0-9]{2}"),
    ".mailmap": re.compile(r"mailma~[1-4]|maba30[~0-9]{2}"),
}
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\..*)?")
# What file systems take for a name, less what they add to it, and what checkouts can hold below a deep directory.
_MAX_NAME_BYTES, _MAX_PATH_BYTES, _MAX_DEPTH = 240, 1024, 64
# Attributes with which others get something else than what was verified; `-name` and `!name` take them back.
_ATTRIBUTES = ("export-subst", "export-ignore", "working-tree-encoding", "ident")
_BUILT_IN_MERGES = ("text", "binary", "union")
_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_POINTER_BYTES = 1024


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

    @property
    def is_attributes(self) -> bool:
        return self.mode != _SYMLINK and _of_git(self.path.rpartition("/")[2]) == ".gitattributes"

    @property
    def max_telling_bytes(self) -> int:
        """Up to which size its content says what it is."""
        if self.mode == _SYMLINK:
            return _MAX_TARGET_BYTES
        return _MAX_ATTRIBUTES_BYTES if self.is_attributes else _MAX_POINTER_BYTES


def check_paths(git: Git, base: str, commit: str, *, policy: PathPolicy) -> list[Violation]:
    """Every reason why the change from base to commit may not be merged; empty when there is none.

    A path that is deleted counts as changed. Content is looked at only where a file's meaning lies in it: links,
    attributes, pointers. What the commits between held and the last one has no more is looked at too, since it stays
    in the history; only what a role may change, and collisions, are questions of the end.
    """
    try:
        changes = list(_parse(git.run("diff-tree", *_RAW, base, commit).stdout))
        passed = set(_parse(_between(git, base, commit)))
    except OutputTooLarge:
        return [Violation("", "too-large", "The commits of this change have too many files together.")]
    kept = [change for change in changes if not change.is_deletion]
    violations = [violation for change in changes for violation in _outside(change, policy)]
    violations += _check_entries(git, kept, policy.max_file_bytes)
    violations += _check_collisions(git, commit, kept)
    told = {(violation.path, violation.rule) for violation in violations}
    earlier = sorted(change for change in passed.difference(kept) if not change.is_deletion)
    found = _check_entries(git, earlier, policy.max_file_bytes)
    return violations + [_of_earlier(one) for one in found if (one.path, one.rule) not in told]


def _between(git: Git, base: str, commit: str) -> bytes:
    """What each commit between the two changed, of merges against each parent."""
    commits = git.run("rev-list", commit, f"^{base}").stdout
    return git.run("diff-tree", "--stdin", "--root", "-m", "--no-commit-id", *_RAW, stdin=commits).stdout


def _of_earlier(one: Violation) -> Violation:
    sentence = f"{one.sentence} An earlier commit of this change has it, and would stay in the history."
    return Violation(one.path, one.rule, sentence)


def _check_entries(git: Git, changes: list[_Change], max_file_bytes: int) -> Iterator[Violation]:
    """All that can be wrong with one entry of a tree by itself."""
    for change in changes:
        yield from _check_name(change)
        if change.mode == _GITLINK:
            sentence = f"{change.path} is a submodule (a repository within the repository); add its files instead."
            yield Violation(change.path, "submodule", sentence)
    yield from _check_contents(git, changes, max_file_bytes)


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
    if any(unicodedata.category(character) == "Cc" or character in _HIDING for character in decoded):
        yield Violation(ascii(path), "control", f"The name {path!a} has control characters.")
    parts = decoded.split("/")
    for part in parts:
        if part in ("", ".", ".."):
            yield Violation(path, "traversal", f"{path} has a part that leads elsewhere ({part!r}).")
        elif any(_is_dot_git(piece) for piece in part.split("\\")):
            yield Violation(path, "dot-git", f"{path} would be part of a Git directory when checked out.")
        elif not _is_portable(part):
            sentence = f"{path} cannot be checked out everywhere: no \\ or :, no dot or space at the end of a name."
            yield Violation(path, "portable", sentence + " Names of devices such as nul or com1 are taken.")
    if len(parts) > _MAX_DEPTH or len(change.raw) > _MAX_PATH_BYTES or _longest(change.raw) > _MAX_NAME_BYTES:
        sentence = f"{path[:100]}… is too long: at most {_MAX_NAME_BYTES} bytes in a name, {_MAX_PATH_BYTES} in all"
        yield Violation(path, "length", f"{sentence}, {_MAX_DEPTH} directories deep.")
    if _of_git(parts[-1]) == ".gitmodules":
        yield Violation(path, "submodule", f"{path} declares submodules, which are not used here.")


def _longest(raw: bytes) -> int:
    return max(map(len, raw.split(b"/")))


def _plain(part: str) -> str:
    """The name as the most forgiving file system compares it: no case, invisible marks, streams, dots at the end."""
    return part.translate(_IGNORABLE).split(":")[0].rstrip(". ").lower()


def _is_dot_git(part: str) -> bool:
    """Whether some file system would take the name for `.git`: case, trailing dots, short names, invisible marks."""
    return _plain(part) in (".git", "git~1")


def _of_git(part: str) -> str:
    """The file of Git's own that some file system would take the name for; empty for none."""
    plain = _plain(part)
    return next((name for name, short in _OF_GIT.items() if plain == name or short.fullmatch(plain)), "")


def _is_portable(part: str) -> bool:
    return not (set(part) & {"\\", ":"} or part[-1] in ". " or _DEVICE.fullmatch(part.lower()))


def _check_contents(git: Git, changes: list[_Change], max_file_bytes: int) -> Iterator[Violation]:
    """Sizes of all files; of those few that say what others are, what is in them. Two commands, however many."""
    files = [change for change in changes if change.mode != _GITLINK]
    asked = "".join(f"{change.sha}\n" for change in files).encode()
    sizes = git.run("cat-file", "--batch-check=%(objectsize)", stdin=asked).stdout.split() if files else []
    telling = []
    for change, size in zip(files, map(int, sizes), strict=True):
        if size > max_file_bytes:
            sentence = f"{change.path} has {size:,} bytes; at most {max_file_bytes:,} are allowed."
            yield Violation(change.path, "size", sentence)
        elif size > change.max_telling_bytes:
            yield from _check_telling_size(change)
        else:
            telling.append(change)
    with contextlib.closing(git.objects([change.sha for change in telling])) as contents:
        for change, (_, _, content) in zip(telling, contents, strict=True):
            yield from _check_content(change, content)


def _check_telling_size(change: _Change) -> Iterator[Violation]:
    if change.mode == _SYMLINK:
        yield Violation(change.path, "symlink", f"The link {change.path} leads further than any path.")
    elif change.is_attributes:
        yield Violation(change.path, "attribute", f"{change.path} is too long for a file of attributes.")


def _check_content(change: _Change, content: bytes) -> Iterator[Violation]:
    if change.mode == _SYMLINK:
        yield from _check_link(change, content)
    elif change.is_attributes:
        yield from _check_attributes(change.path, content)
    elif content.startswith(_POINTER):
        sentence = f"{change.path} is a pointer of Git LFS, which is not used here; add the file itself."
        yield Violation(change.path, "lfs", sentence)


def _check_attributes(path: str, content: bytes) -> Iterator[Violation]:
    """Whether attributes only say how text is compared. Those that run programs find none here, but do elsewhere."""
    set_ones = dict.fromkeys(attribute for line in content.split(b"\n") for attribute in _attributes_of(line))
    names_set = [attribute.partition("=")[0] for attribute in set_ones]
    if "filter" in names_set:
        yield Violation(path, "filter", f"{path} sets a filter, which would run a program on checkout.")
    drivers = [attribute for attribute in set_ones if attribute.startswith("merge=")]
    for attribute in drivers:
        if attribute.removeprefix("merge=") not in _BUILT_IN_MERGES:
            yield Violation(path, "attribute", f"{path} sets {attribute!a}, which would run a program on a merge.")
    for name in sorted(set(names_set) & set(_ATTRIBUTES)):
        sentence = f"{path} sets {name}: what is delivered would not be what was verified."
        yield Violation(path, "attribute", sentence)


def _attributes_of(line: bytes) -> list[str]:
    """What a line sets, without its pattern. A quoted pattern may have spaces: its rest does no harm here."""
    words = re.split(rb"[ \t\r]+", line.strip(b" \t\r"))
    if words[0].startswith(b"#"):
        return []
    return [word.decode("utf-8", "replace") for word in words[1:] if word[:1] not in b"-!"]


def _check_link(change: _Change, target: bytes) -> Iterator[Violation]:
    shown = names.printable(target)
    parts = re.split(r"[/\\]", shown)
    if _of_git(change.path.rpartition("/")[2]):
        yield Violation(change.path, "symlink", f"{change.path} is a link; Git reads it only where it is a file.")
    if _leads_out(change.path, parts):
        yield Violation(change.path, "symlink", f"The link {change.path} leads out of the repository, to {shown}.")
    elif any(_is_dot_git(part) for part in parts):
        yield Violation(change.path, "symlink", f"The link {change.path} leads into the Git directory.")


def _leads_out(path: str, parts: list[str]) -> bool:
    """Whether a link's target may be outside. Steps up come first: behind a name they would start wherever that
    leads, if it is a link itself."""
    up = len(list(itertools.takewhile(lambda part: part == "..", parts)))
    return parts[0] == "" or ":" in parts[0] or up > path.count("/") or ".." in parts[up:]


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
    # In this order: folding can take accents apart again.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.translate(_IGNORABLE)).casefold())


def _glob(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(special.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)
