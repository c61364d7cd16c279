"""A run's clone, read as what it is: files that an agent could write.

git is never started here. References are read as text, objects are copied by the shape of their names, and the
work tree is copied into a directory of the platform's own. Configuration, hooks, attributes, alternates, indexes
and caches of the clone are never even opened, nor is anything that a link leads to.
"""

import contextlib
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from agents.workspace import beneath
from agents.workspace.errors import CloneDamaged, CloneTooLarge, CloneUnsafe
from agents.workspace.values import Limits

_SHA = re.compile(rb"[0-9a-f]{40}")
_HEAD = re.compile(rb"ref: (refs/heads/[^\x00-\x20\x7f~^:?*\[\\]{1,200})\s*")
_FANOUT = re.compile(r"[0-9a-f]{2}")
_LOOSE = re.compile(r"[0-9a-f]{38}")
_PACK = re.compile(r"pack-[0-9a-f]{40}\.pack")
_OBJECT_HEADER = re.compile(rb"(?:blob|tree|commit|tag) ([0-9]{1,19})\x00")
_MAX_REF_BYTES = 4096
_MAX_PACKED_REFS_BYTES = 16_000_000
_MAX_IGNORE_BYTES = 1_000_000
# The kernel takes no longer path than 4096; one more name still has to fit.
_MAX_PATH_BYTES = 3800


@contextlib.contextmanager
def open_clone(path: Path, limits: Limits) -> Iterator["RunClone"]:
    """Open a run's clone for reading; it may be in use.

    Raises CloneUnsafe when the directory, its `.git` or the object store in it is a link or a file, and
    CloneDamaged when the platform's user may not read something in it.
    """
    with contextlib.ExitStack() as opened, _readable():
        root = opened.enter_context(beneath.directory(path))
        if root is None:
            raise CloneUnsafe(f"{path} is not a directory")
        git = _plain(opened, ".git", root)
        objects = None if git is None else _plain(opened, "objects", git)
        yield RunClone(root, git, objects=objects, limits=limits)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    # Skipping what may not be read would look like a deletion.
    try:
        yield
    except PermissionError as exc:
        raise CloneDamaged(f"the platform may not read {exc.filename!r} in the clone") from exc


def _plain(opened: contextlib.ExitStack, name: str, parent: int) -> int | None:
    """Open a directory that may be missing, but must not be anything else."""
    kind = beneath.kind(name, beneath=parent)
    if kind is None:
        return None
    fd = opened.enter_context(beneath.directory(name, beneath=parent)) if kind == stat.S_IFDIR else None
    if fd is None:
        raise CloneUnsafe(f"the clone's {name} is not a plain directory, so it was not read")
    return fd


class RunClone:
    """An open clone. Nothing that it gives is to be believed before Git has checked it elsewhere."""

    def __init__(self, root: int, git: int | None, *, objects: int | None, limits: Limits) -> None:
        self._root = root
        self._git = git
        self._objects = objects
        self._limits = limits

    def head(self) -> str | None:
        """The commit id that is checked out, as the clone claims; None when it names none."""
        content = self._read("HEAD", _MAX_REF_BYTES)
        if content is None:
            return None
        match = _HEAD.fullmatch(content)
        return self._reference(match[1]) if match else _sha(content)

    def branch(self, name: str) -> str | None:
        """The commit id of a branch, as the clone claims; None when there is no such branch."""
        return self._reference(b"refs/heads/" + name.encode())

    def _reference(self, ref: bytes) -> str | None:
        content = self._read(os.fsdecode(ref), _MAX_REF_BYTES)
        if content is not None:
            return _sha(content)
        packed = self._read("packed-refs", _MAX_PACKED_REFS_BYTES) or b""
        lines = (line.split(b" ", 1) for line in packed.splitlines())
        return next((_sha(line[0]) for line in lines if len(line) == 2 and line[1] == ref), None)

    def _read(self, path: str, max_bytes: int) -> bytes | None:
        return None if self._git is None else beneath.read(path, beneath=self._git, max_bytes=max_bytes)

    def copy_loose_objects(self, destination: Path) -> int:
        """Copy the objects that lie in files of their own into another store; returns the bytes copied.

        Damaged ones and other files are left out. Raises CloneTooLarge before an object that would unpack to
        more than a file may have is ever unpacked.
        """
        total = count = 0
        for fanout, directory in self._fanouts():
            for name in _names(directory, _LOOSE):
                count += 1
                if count > self._limits.max_objects:
                    raise CloneTooLarge("max_objects", self._limits.max_objects)
                total += self._copy_object(directory, name, destination / fanout)
                if total > self._limits.max_store_bytes:
                    raise CloneTooLarge("max_store_bytes", self._limits.max_store_bytes)
        return total

    def _fanouts(self) -> Iterator[tuple[str, int]]:
        if self._objects is None:
            return
        for name in _names(self._objects, _FANOUT):
            with beneath.directory(name, beneath=self._objects) as fd:
                if fd is not None:
                    yield name, fd

    def _copy_object(self, directory: int, name: str, destination: Path) -> int:
        with beneath.file(name, beneath=directory) as source:
            if source is None or not self._is_sound(source):
                return 0
            destination.mkdir(exist_ok=True)
            target = os.open(destination / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
            try:
                return beneath.copy_open(source, target, self._limits.max_store_bytes)
            finally:
                os.close(target)

    def _is_sound(self, fd: int) -> bool:
        """Whether a loose object says what it is, and that it is small enough, in its first bytes."""
        try:
            begin = zlib.decompressobj().decompress(os.pread(fd, 512, 0), 64)
        except zlib.error:
            return False
        match = _OBJECT_HEADER.match(begin)
        if match and int(match[1]) > self._limits.max_file_bytes:
            raise CloneTooLarge("max_file_bytes", self._limits.max_file_bytes, detail=f"{int(match[1])} bytes")
        return match is not None

    def packs(self) -> Iterator[IO[bytes]]:
        """The packs of the clone, open for reading, each until the next one is asked for."""
        if self._objects is None:
            return
        with beneath.directory("pack", beneath=self._objects) as directory:
            for name in () if directory is None else _names(directory, _PACK):
                assert directory is not None
                with beneath.file(name, beneath=directory) as fd:
                    if fd is not None:
                        with os.fdopen(os.dup(fd), "rb") as pack:
                            yield pack

    def copy_names(self, stage: Path) -> None:
        """Rebuild the work tree in an empty directory: directories, links as links, and files that are empty.

        Only `.gitignore` files get their content, since they decide which files are worth copying. Anything named
        `.git`, below the top too, stays behind. Raises CloneTooLarge.
        """
        _Skeleton(self._limits).copy(self._root, stage)

    def copy_contents(self, stage: Path, paths: Iterable[bytes]) -> None:
        """Give those of the files that `copy_names` made their content; what vanished meanwhile is removed.

        Raises CloneTooLarge.
        """
        left = self._limits.max_change_bytes
        with beneath.directory(stage) as target:
            assert target is not None, "the stage is ours"
            for path in paths:
                left -= self._copy_content(os.fsdecode(path), target)
                if left < 0:
                    raise CloneTooLarge("max_change_bytes", self._limits.max_change_bytes)

    def _copy_content(self, path: str, stage: int) -> int:
        with beneath.parent(path, beneath=stage) as target, beneath.parent(path, beneath=self._root) as source:
            if target is None or beneath.kind(target[1], beneath=target[0]) != stat.S_IFREG:
                return 0
            with _file_in(source) as fd:
                if fd is None:
                    os.unlink(target[1], dir_fd=target[0])
                    return 0
                return self._copy_file(fd, target, path)

    def _copy_file(self, source: int, target: tuple[int, str], path: str) -> int:
        flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
        written = os.open(target[1], flags, dir_fd=target[0])
        try:
            copied = beneath.copy_open(source, written, self._limits.max_file_bytes)
        finally:
            os.close(written)
        if copied > self._limits.max_file_bytes:
            raise CloneTooLarge("max_file_bytes", self._limits.max_file_bytes, detail=ascii(path))
        return copied


class _Skeleton:
    """One copy of a work tree's names, counting as it goes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries = 0

    def copy(self, source: int, stage: Path, depth: int = 0) -> None:
        if depth > self._limits.max_depth:
            raise CloneTooLarge("max_depth", self._limits.max_depth)
        if len(os.fsencode(stage)) > _MAX_PATH_BYTES:
            raise CloneTooLarge("max_path_bytes", _MAX_PATH_BYTES)
        with os.scandir(source) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > self._limits.max_entries:
                    raise CloneTooLarge("max_entries", self._limits.max_entries)
                # Case aside: a checkout on a file system that folds case must not grow a Git directory.
                if entry.name.lower() == ".git":
                    continue
                # A directory that changes while it is listed can show a name twice.
                with contextlib.suppress(FileExistsError):
                    self._copy_entry(source, entry.name, stage=stage, depth=depth)

    def _copy_entry(self, source: int, name: str, *, stage: Path, depth: int) -> None:
        kind = beneath.kind(name, beneath=source)
        if kind == stat.S_IFDIR:
            with beneath.directory(name, beneath=source) as fd:
                if fd is not None:
                    (stage / name).mkdir()
                    self.copy(fd, stage / name, depth + 1)
        elif kind == stat.S_IFLNK:
            with contextlib.suppress(FileNotFoundError):
                os.symlink(os.readlink(name, dir_fd=source), stage / name)
        elif kind == stat.S_IFREG:
            with beneath.file(name, beneath=source) as fd:
                if fd is not None:
                    _placeholder(fd, stage / name)


def _placeholder(source: int, target: Path) -> None:
    """An empty file that can be run if the other can; a `.gitignore` comes with its content."""
    mode = 0o755 if os.fstat(source).st_mode & 0o100 else 0o644
    written = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(written, mode)
        if target.name == ".gitignore":
            beneath.copy_open(source, written, _MAX_IGNORE_BYTES)
    finally:
        os.close(written)


@contextlib.contextmanager
def _file_in(found: tuple[int, str] | None) -> Iterator[int | None]:
    if found is None:
        yield None
        return
    with beneath.file(found[1], beneath=found[0]) as fd:
        yield fd


def _names(directory: int, pattern: re.Pattern[str]) -> list[str]:
    return sorted(name for name in os.listdir(directory) if pattern.fullmatch(name))


def _sha(content: bytes) -> str | None:
    content = content.strip()
    return content.decode() if _SHA.fullmatch(content) else None
