"""A run's directories as one file, and back. Who unpacks trusts nothing in it: not names, links, sizes or numbers."""

import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

LITTER = frozenset({"__pycache__", ".venv", "node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache"})
"""Directories that are made anew anywhere, and that no change may bring: they stay where they are."""
_MOST_NAME_BYTES = 3_000
_MOST_PARTS = 200
"""Of a path: whatever walks through the directories later calls itself for each level."""
_MOST_HEADER_BYTES = 2**20
"""From one entry's content to the next one's: names come in headers of any length, and of any number."""
_MARGIN_BYTES = 2**20
_MOST_ENTRY_BYTES = 8 * 1024
"""What an entry of ours takes besides its content, at most: a header, names, padding."""
_BLOCK_BYTES = 2**18
_LATEST_S = 2**33
_UNREADABLE = (
    tarfile.TarError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    gzip.BadGzipFile,
    RecursionError,
    MemoryError,
)


class BadArchive(Exception):
    """It is no archive, or holds what no run's directory has."""


@dataclass(frozen=True)
class Most:
    """What may be unpacked."""

    entries: int = 200_000
    bytes: int = 2 * 2**30


def pack(root: Path, names: Iterable[str], archive: Path) -> None:
    """Write the directories `names` below `root` into a file. Links stay links; what is no file or directory is left.

    Nothing may run in there meanwhile. Raises OSError.
    """
    with tarfile.open(archive, "w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            if (root / name).is_dir() and not (root / name).is_symlink():
                _add(tar, root, name)


def _add(tar: tarfile.TarFile, root: Path, name: str) -> None:
    tar.addfile(_entry(name, tarfile.DIRTYPE))
    with os.scandir(root / name) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        inside = f"{name}/{entry.name}"
        if entry.is_symlink():
            link = _entry(inside, tarfile.SYMTYPE)
            link.linkname = os.readlink(entry.path)
            tar.addfile(link)
        elif entry.is_dir(follow_symlinks=False):
            if entry.name not in LITTER:
                _add(tar, root, inside)
        elif entry.is_file(follow_symlinks=False):
            with os.fdopen(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                about = os.fstat(file.fileno())
                one = _entry(inside, tarfile.REGTYPE)
                one.size, one.mtime = about.st_size, int(about.st_mtime)
                one.mode = 0o755 if about.st_mode & stat.S_IXUSR else 0o644
                tar.addfile(one, file)


def _entry(name: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, 0o755
    return entry


def unpack(archive: Path, destination: Path, *, names: Iterable[str], most: Most) -> None:
    """Unpack what lies below the directories `names` into a new directory. Raises BadArchive, OSError.

    Files first, links last, and never through a link: while files are written there is none. Little memory is taken
    whatever it says.
    """
    destination.mkdir(mode=0o700)
    try:
        with gzip.open(archive) as unpacked:
            source = _Counted(unpacked, most.bytes + most.entries * _MOST_ENTRY_BYTES + _MARGIN_BYTES)
            with tarfile.open(fileobj=cast("Any", source), mode="r:") as tar:
                _unpack(tar, source, destination, set(names), most)
    except _UNREADABLE as error:
        raise BadArchive(f"it cannot be read: {error}") from error


def _unpack(tar: tarfile.TarFile, source: "_Counted", destination: Path, allowed: set[str], most: Most) -> None:
    links, left, made = [], most.bytes, {destination}
    for count, entry in enumerate(_members(tar, source)):
        left -= entry.size if entry.isreg() else 0
        if count >= most.entries or left < 0:
            raise BadArchive(f"more than {most.entries} entries, or {most.bytes} bytes")
        path = destination.joinpath(*_parts(entry.name, allowed))
        if entry.issym():
            links.append((path, entry.linkname))
        elif entry.isdir():
            _make(path, made)
        elif entry.isreg():
            _make(path.parent, made)
            _write(tar, entry, path)
    for path, target in links:
        if path.parent in made and not path.exists() and not path.is_symlink() and target:
            os.symlink(target, path)


class _Counted:
    """The bytes of an archive, unpacked: not more than `most` of them, not many for a header, and none twice."""

    def __init__(self, unpacked: gzip.GzipFile, most: int) -> None:
        self._unpacked, self._most = unpacked, most
        self.header_left: int | None = _MOST_HEADER_BYTES
        """How much may be read until the content of the next entry begins; None within one."""

    def read(self, size: int) -> bytes:
        if self.header_left is not None:
            self.header_left -= size
            if self.header_left < 0:
                raise BadArchive(f"it has a header of more than {_MOST_HEADER_BYTES:,} bytes")
        self._check(self.tell() + size)
        return self._unpacked.read(size)

    def seek(self, offset: int) -> int:
        if offset < self.tell():
            raise BadArchive("it refers to what came before")
        self._check(offset)
        return self._unpacked.seek(offset)

    def tell(self) -> int:
        return self._unpacked.tell()

    def _check(self, offset: int) -> None:
        if offset > self._most:
            raise BadArchive(f"it unpacks to more than {self._most:,} bytes")


def _members(tar: tarfile.TarFile, source: _Counted) -> Iterator[tarfile.TarInfo]:
    # Not `for entry in tar`, which keeps them all.
    while (entry := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # its list, of which it needs nothing
        if entry.issparse() or entry.size < 0:
            raise BadArchive(f"{entry.name[:200]!r} is a file with holes, or less than empty")
        source.header_left = None
        yield entry
        source.header_left = _MOST_HEADER_BYTES


def _parts(name: str, allowed: set[str]) -> list[str]:
    parts = name.split("/")
    is_odd = any(part in {"", ".", ".."} for part in parts) or "\0" in name
    is_long = len(parts) > _MOST_PARTS or len(os.fsencode(name)) > _MOST_NAME_BYTES
    if is_odd or is_long or parts[0] not in allowed:
        raise BadArchive(f"{name[:200]!r} is no place in a run's directory")
    return parts


def _make(directory: Path, made: set[Path]) -> None:
    missing = []
    while directory not in made:
        missing.append(directory)
        directory = directory.parent
    for one in reversed(missing):
        try:
            one.mkdir(mode=0o755)
        except FileExistsError as error:
            raise BadArchive(f"{one.name!r} is a file and a directory") from error
        made.add(one)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(entry)
    assert source is not None
    mode = 0o755 if entry.mode & stat.S_IXUSR else 0o644
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except (FileExistsError, IsADirectoryError) as error:
        raise BadArchive(f"{entry.name!r} is there twice") from error
    with os.fdopen(target, "wb") as file:
        while block := source.read(_BLOCK_BYTES):
            file.write(block)
    written_at = min(max(int(entry.mtime), 0), _LATEST_S)
    os.utime(path, (written_at, written_at))
