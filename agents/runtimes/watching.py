"""Where no volumes can be made: a thread that measures each second what sandboxes wrote, and kills who wrote too much.

It is late by up to a second and by the time it needs to look, so a sandbox may exceed its limit by what it writes
meanwhile; and it watches only while this process lives. Said as such in `check`.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agents.runtimes.errors import RuntimeProblem

__all__ = ["DiskWatch", "used_mb"]

INTERVAL_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Watched:
    directories: tuple[Path, ...]
    limit_mb: int


class DiskWatch:
    """Watches any number of sandboxes; `kill` ends one by its name. The thread ends when nothing is watched."""

    def __init__(self, kill: Callable[[str], None], *, interval_s: float = INTERVAL_S) -> None:
        self._kill = kill
        self._interval_s = interval_s
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, name: str, directories: tuple[Path, ...], *, limit_mb: int) -> None:
        """Watch from now on."""
        with self._lock:
            self._watched[name] = _Watched(directories, limit_mb)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="disk-watch", daemon=True)
                self._thread.start()

    def drop(self, name: str) -> None:
        """Watch it no more."""
        with self._lock:
            self._watched.pop(name, None)

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                watched = dict(self._watched)
                if not watched:
                    self._thread = None
                    return
            for name, item in watched.items():
                self._look(name, item)
            pause.wait(self._interval_s)

    def _look(self, name: str, item: _Watched) -> None:
        used = sum(used_mb(directory) for directory in item.directories)
        if used <= item.limit_mb:
            return
        logger.warning("sandbox %s wrote %d MB of %d and is killed", name, used, item.limit_mb)
        try:
            self._kill(name)
        except RuntimeProblem:  # the next look tries again
            logger.exception("sandbox %s could not be killed", name)


def used_mb(directory: Path) -> int:
    """Return what a directory takes on the disk, rounded up. Links are not followed; what vanishes is not counted."""
    blocks = 0
    stack = [str(directory)]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    blocks += _blocks(entry)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        except OSError:
            continue
    return -(-blocks * 512 // 2**20)


def _blocks(entry: "os.DirEntry[str]") -> int:
    try:
        # A block at least: a million empty files fill a disk as well.
        return max(8, entry.stat(follow_symlinks=False).st_blocks)
    except OSError:
        return 0
