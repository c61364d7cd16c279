"""Reading a directory that somebody hostile can change at any moment, without ever leaving it.

Every step is relative to an open directory and refuses symbolic links (`O_NOFOLLOW`), so neither a link nor a
directory swapped for one mid-way leads outside. Devices, pipes and sockets are never opened for reading.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking, because opening a pipe for reading would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# It is not there, is a link, or is not what it was a moment ago.
_ELSEWHERE = {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENODEV}
CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def directory(path: str | Path, *, beneath: int | None = None) -> Iterator[int | None]:
    """An open directory, or None when it is not a plain directory. `path` is one name if `beneath` is given."""
    fd = _open(str(path), _DIRECTORY, beneath)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


@contextlib.contextmanager
def file(name: str, *, beneath: int) -> Iterator[int | None]:
    """An open regular file of one name in an open directory, or None when there is none."""
    fd = _open(name, _FILE, beneath)
    try:
        yield fd if fd is not None and stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        if fd is not None:
            os.close(fd)


@contextlib.contextmanager
def parent(path: str, *, beneath: int) -> Iterator[tuple[int, str] | None]:
    """The open directory that holds `path` (several names deep) and the last name; None when it is not there."""
    *names, last = path.split("/")
    with contextlib.ExitStack() as opened:
        fd: int | None = beneath
        for name in names:
            if fd is not None and name not in ("", ".", ".."):
                fd = opened.enter_context(directory(name, beneath=fd))
        yield None if fd is None else (fd, last)


def kind(name: str, *, beneath: int) -> int | None:
    """The file type bits (`stat.S_IFMT`) of a name in an open directory; None when it does not exist."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=beneath, follow_symlinks=False).st_mode)
    except OSError as exc:
        if exc.errno in _ELSEWHERE:
            return None
        raise


def read(path: str, *, beneath: int, max_bytes: int) -> bytes | None:
    """The first `max_bytes` of a regular file several names deep; None when there is none."""
    with parent(path, beneath=beneath) as found:
        if found is None:
            return None
        with file(found[1], beneath=found[0]) as fd:
            return None if fd is None else read_open(fd, max_bytes)


def read_open(fd: int, max_bytes: int) -> bytes:
    """The first `max_bytes` of an open file, which may be growing."""
    parts: list[bytes] = []
    while max_bytes > 0 and (part := os.read(fd, min(max_bytes, CHUNK_BYTES))):
        parts.append(part)
        max_bytes -= len(part)
    return b"".join(parts)


def copy_open(source: int, target: int, max_bytes: int) -> int:
    """Copy an open file to another, `max_bytes` and one more at most. Returns the bytes copied."""
    copied = 0
    while copied <= max_bytes and (part := os.read(source, min(CHUNK_BYTES, max_bytes + 1 - copied))):
        copied += len(part)
        view = memoryview(part)
        while view:
            view = view[os.write(target, view) :]
    return copied


def _open(name: str, flags: int, beneath: int | None) -> int | None:
    try:
        return os.open(name, flags, dir_fd=beneath)
    except OSError as exc:
        if exc.errno in _ELSEWHERE:
            return None
        raise
