"""A run's directories as one file, and back. Who unpacks trusts nothing in it: not names, links, sizes or numbers."""

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LITTER = frozenset({"__pycache__", ".venv", "node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache"})
"""Directories that are made anew anywhere, and that no change may bring: they stay where they are."""
_MOST_NAME_BYTES = 3_000


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

    Files first, links last, and never through a link: while files are written there is none.
    """
    destination.mkdir(mode=0o700)
    allowed, links, left = set(names), [], most.bytes
    made = {destination}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for count, entry in enumerate(_members(tar)):
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
    except (tarfile.TarError, EOFError, ValueError) as error:  # zlib's errors come as one of these
        raise BadArchive(f"it cannot be read: {error}") from error
    for path, target in links:
        if path.parent in made and not path.exists() and not path.is_symlink() and target:
            os.symlink(target, path)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    # Not `for entry in tar`, which keeps them all.
    while (entry := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # its list, of which it needs nothing
        yield entry


def _parts(name: str, allowed: set[str]) -> list[str]:
    parts = name.split("/")
    is_odd = any(part in {"", ".", ".."} for part in parts) or "\0" in name
    if is_odd or parts[0] not in allowed or len(os.fsencode(name)) > _MOST_NAME_BYTES:
        raise BadArchive(f"{name[:200]!r} is no place in a run's directory")
    return parts


def _make(directory: Path, made: set[Path]) -> None:
    if directory in made:
        return
    _make(directory.parent, made)
    try:
        directory.mkdir(mode=0o755)
    except FileExistsError as error:
        raise BadArchive(f"{directory.name!r} is a file and a directory") from error
    made.add(directory)


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(entry)
    assert source is not None
    mode = 0o755 if entry.mode & stat.S_IXUSR else 0o644
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except (FileExistsError, IsADirectoryError) as error:
        raise BadArchive(f"{entry.name!r} is there twice") from error
    with os.fdopen(target, "wb") as file:
        while block := source.read(1 << 20):
            file.write(block)
    os.utime(path, (entry.mtime, entry.mtime))
