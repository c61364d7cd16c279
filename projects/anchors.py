"""What an admin keeps elsewhere to prove the audit log by: how long each chain was, and the hash of its last row.

Whoever can write to the database can rewrite a chain from some row on, its head included. They cannot rewrite a sheet
of paper: a chain that is whole and still has the anchored hash at the anchored row is the one that was anchored.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from projects.errors import DomainError
from projects.models import AuditChain

TITLE = "eklavya audit anchor 1"
MAX_BYTES = 50_000_000
_LINE = re.compile(r"(account|[0-9a-f-]{36}) ([0-9]{1,18}) ([0-9a-f]{64})")
_SUM_CHARS = 16

Anchors = dict[str, tuple[int, str]]
"""Chain -> the number of its last row then, and that row's hash."""


class InvalidAnchor(DomainError):
    """The file is no anchor, or not as it was written."""


def take(now: datetime) -> Iterator[str]:
    """Yield the lines of an anchor of all chains that have rows."""
    heads = AuditChain.objects.filter(last_seq__gt=0).order_by("key")
    lines = [TITLE, f"taken {now.astimezone(UTC).isoformat(timespec='seconds')}"]
    lines += [f"{head.key} {head.last_seq} {head.last_hash}" for head in heads.iterator()]
    yield from lines
    yield f"sum {_sum(lines)}"


def read(path: Path) -> Anchors:
    """Return what an anchor says. Raises InvalidAnchor."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidAnchor(f"{path} cannot be read: {error.strerror}.") from error
    if len(text) > MAX_BYTES:
        raise InvalidAnchor(f"{path} is too large for an anchor.")
    lines = [" ".join(line.split()) for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines or lines[0] != TITLE:
        raise InvalidAnchor(f"{path} is no anchor: its first line should be “{TITLE}”.")
    if len(lines) < 3 or lines[-1] != f"sum {_sum(lines[:-1])}":
        raise InvalidAnchor(f"{path} is not as it was written: its last line is not the sum of the others.")
    return {chain: (seq, found) for chain, seq, found in _parsed(path, lines[2:-1])}


def _parsed(path: Path, lines: list[str]) -> Iterator[tuple[str, int, str]]:
    for number, line in enumerate(lines, 3):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InvalidAnchor(f"{path}, line {number}: should be a chain, a number and a hash.")
        yield match[1], int(match[2]), match[3]


def _sum(lines: Iterable[str]) -> str:
    """Find slips of whoever typed a printed anchor; it proves nothing."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_SUM_CHARS]
