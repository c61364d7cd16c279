"""Whether an agent gets anywhere, seen from outside: no model is asked. Circles of equal calls, and files that stay as
they are. That nothing is said at all is seen by who listens (`session`), or by the sweep when nobody does.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from agents.actions.transcript import Line
from agents.models import RunEvent

LOOPING, NO_DIFF = "looping", "no_diff"
# A circle has at most so many different calls.
LONGEST_CIRCLE = 3
# Answers that differ each time (a clock, a log) make a circle of calls too, but only after so many times more.
PATIENCE = 5
# Says what is done and does nothing: words that differ are no work.
TALK = frozenset({"mcp__eklavya__report_progress"})
# How often the files are looked at, and how many at most.
LOOK_EVERY = timedelta(minutes=1)
MOST_FILES = 20_000


@dataclass(frozen=True)
class Stuck:
    """Why an agent gets nowhere: a reason code and a sentence for people."""

    reason: str
    detail: str


@dataclass
class Progress:
    """Watches one run. `calls`: equal ones in a row that are too many; `no_diff`: how long its files may stay as they
    are while it calls tools; 0 switches each off. `look` returns what the files are, in short; empty: do not ask.
    """

    calls: int = 0
    no_diff: timedelta = timedelta(0)
    look: Callable[[], str] | None = None
    _asked: dict[str, str] = field(default_factory=dict)
    _calls: deque[str] = field(default_factory=deque)
    _answered: deque[str] = field(default_factory=deque)
    _name: str = ""
    _files: str = ""
    _changed_at: datetime | None = None
    _looked_at: datetime | None = None

    def take(self, lines: Iterable[Line]) -> None:
        """Note what was said, in order."""
        if not self.calls:
            return
        for line in lines:
            if line.kind == RunEvent.Kind.TOOL_USE:
                if line.payload["name"] in TALK:
                    continue
                self._name = str(line.payload["name"])
                call = _digest([line.payload["name"], line.payload["input"]])
                self._asked[line.payload["id"]] = call
                _add(self._calls, call, self._length * PATIENCE)
            elif line.kind == RunEvent.Kind.TOOL_RESULT and (asked := self._asked.pop(line.payload["id"], "")):
                _add(self._answered, _digest([asked, line.payload["content"]]), self._length)

    @property
    def _length(self) -> int:
        return self.calls * LONGEST_CIRCLE

    def circling(self) -> Stuck | None:
        """Return why it goes in circles, if it does."""
        if not self.calls:
            return None
        if _circles(self._answered, self.calls):
            return Stuck(LOOPING, f"The agent made the same calls, last {self._name}, {self.calls} times in a row.")
        if _circles(self._calls, self.calls * PATIENCE):
            times = f"{self.calls * PATIENCE} times, whatever came back"
            return Stuck(LOOPING, f"The agent made the same calls, last {self._name}, {times}.")
        return None

    def is_time_to_look(self, now: datetime) -> bool:
        """Whether `standing_still` is to be asked: it reads the disk."""
        if not self.no_diff or self.look is None:
            return False
        return self._looked_at is None or now - self._looked_at >= LOOK_EVERY

    def standing_still(self, now: datetime) -> Stuck | None:
        """Look at the files; return why it stands still, if nothing in them has changed for too long."""
        assert self.look is not None
        files, self._looked_at = self.look(), now
        if files != self._files or not files or self._changed_at is None:
            self._files, self._changed_at = files, now
        if now - self._changed_at < self.no_diff:
            return None
        minutes = self.no_diff.total_seconds() / 60
        return Stuck(NO_DIFF, f"The agent changed no file for {minutes:g} minutes.")


def digest_of_files(root: Path) -> str:
    """Return a digest of the names, sizes and times below `root`; empty where there are too many, or none to see.

    Nothing is opened and no link followed: an agent made them. Of Git only where its branch is.
    """
    found = hashlib.sha256()
    waiting, count = [root], 0
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            count += 1
            if count > MOST_FILES:
                return ""
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".git":
                    waiting.append(Path(entry.path))
                continue
            found.update(_line_of(entry))
    with suppress(OSError):  # nothing was committed
        found.update(str((root / ".git" / "logs" / "HEAD").lstat().st_mtime_ns).encode())
    return found.hexdigest() if count else ""


def _line_of(entry: "os.DirEntry[str]") -> bytes:
    try:
        seen = entry.stat(follow_symlinks=False)
    except OSError:
        return b""
    return os.fsencode(entry.path) + f"\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _add(calls: "deque[str]", call: str, most: int) -> None:
    calls.append(call)
    while len(calls) > most:
        calls.popleft()


def _circles(calls: "deque[str]", times: int) -> bool:
    """Whether the newest calls are one circle of up to LONGEST_CIRCLE calls, this many times."""
    newest = list(calls)
    for length in range(1, LONGEST_CIRCLE + 1):
        part = newest[-length * times :]
        if len(part) == length * times and part[length:] == part[:-length]:
            return True
    return False
