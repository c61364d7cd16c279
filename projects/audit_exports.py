"""The audit log as a file that is checked without a database, line by line, in constant memory.

JSON lines: a header, then of each chain its rows in order and its head, then an end that counts. A row is exactly what
its digest is made of, and that digest. Rows are told from the other lines by their keys.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from projects import audit
from projects.anchors import Anchors
from projects.audit import Break
from projects.chains import ChainReport, rows_of_chains
from projects.errors import DomainError

FORMAT = "eklavya-audit"
VERSION = 1
# A row's strings are bounded, their number is not; far above what any action writes.
MAX_LINE_BYTES = 64_000_000
_ROW_KEYS = {*audit.DIGESTED, "hash"}
_HEAD_KEYS = {"head", "last_seq", "last_hash"}


class InvalidExport(DomainError):
    """The file is no export, or a part of one."""


def lines(project_id: UUID | None, now: datetime) -> Iterator[str]:
    """Yield the lines of an export of all chains, or of a project's. Must not be called in a transaction."""
    scope = str(project_id) if project_id else "all"
    yield _line({"format": FORMAT, "version": VERSION, "chains": scope, "exported_at": now.astimezone(UTC).isoformat()})
    chains = rows = 0
    for chain, head, found in rows_of_chains(project_id):
        chains += 1
        for row in found:
            rows += 1
            yield _line({**audit.content(row), "hash": row.hash})
        last = {"last_seq": head.last_seq, "last_hash": head.last_hash} if head else {"last_seq": None, "last_hash": ""}
        yield _line({"head": chain, **last})
    yield _line({"end": {"chains": chains, "rows": rows}})


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


@dataclass
class Checked:
    """What an export turned out to be: its scope (“all”, or a project's id) and each chain's report, in order."""

    scope: str = "all"
    unanchored: list[str] = field(default_factory=list)
    """Chains that the anchor knows and that this export does not claim to have."""


def check(path: Path, anchors: Anchors, checked: Checked) -> Iterator[ChainReport]:
    """Yield a report of each chain of the file, and fill `checked` on the way. Raises InvalidExport.

    A report is only worth something when the whole file was read.
    """
    try:
        with path.open("rb") as file:
            yield from _Reading(path, anchors, checked).reports(_values(path, file))
    except OSError as error:
        raise InvalidExport(f"{path} cannot be read: {error.strerror}.") from error


def _values(path: Path, file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            what = "is no line of an export" if line.endswith(b"\n") else "ends in the middle: the file was cut"
            raise InvalidExport(f"{path}, line {number}: {what}.")
        yield number, value


class _Reading:
    """One pass over a file."""

    def __init__(self, path: Path, anchors: Anchors, checked: Checked) -> None:
        self._path = path
        self._anchors = anchors
        self._checked = checked
        self._seen: set[str] = set()
        self._current: _Chain | None = None
        self._rows = 0

    def reports(self, values: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[ChainReport]:
        """Yield what is found of each chain."""
        self._begin(next(values, (0, {}))[1])
        for number, value in values:
            if value.keys() == {"end"}:
                self._end(value["end"])
                for extra, _ in values:
                    raise InvalidExport(f"{self._path}, line {extra}: stands after the end.")
                yield from self._forgotten()
                return
            chain = self._chain_of(number, value)
            if value.keys() == _HEAD_KEYS:
                self._seen.add(chain.key)
                self._current = None
                yield chain.report(value["last_seq"], value["last_hash"])
            elif value.keys() == _ROW_KEYS and type(value["seq"]) is int:
                self._rows += 1
                chain.take(value)
            else:
                raise InvalidExport(f"{self._path}, line {number}: is no row of an audit log.")
        raise InvalidExport(f"{self._path} ends early: the file was cut.")

    def _begin(self, header: dict[str, Any]) -> None:
        scope = header.get("chains")
        if header.get("format") != FORMAT or header.get("version") != VERSION or not isinstance(scope, str):
            raise InvalidExport(f"{self._path} is no export of the audit log: make one with `manage.py export_audit`.")
        self._checked.scope = scope

    def _chain_of(self, number: int, value: dict[str, Any]) -> "_Chain":
        key = value.get("head", value.get("chain"))
        if not isinstance(key, str) or key in self._seen or (self._current and self._current.key != key):
            raise InvalidExport(f"{self._path}, line {number}: belongs to another chain than the lines around it.")
        self._current = self._current or _Chain(key, self._anchors.get(key))
        return self._current

    def _end(self, said: Any) -> None:
        if self._current is not None:
            raise InvalidExport(f"{self._path}: the chain {self._current.key} has no head.")
        found = {"chains": len(self._seen), "rows": self._rows}
        if said != found:
            raise InvalidExport(
                f"{self._path} has {found}, and its end speaks of {str(said)[:200]}: lines are missing."
            )

    def _forgotten(self) -> Iterator[ChainReport]:
        """Yield a report of each chain that the anchor knows and that the file claims to have and has not."""
        for key in sorted(self._anchors.keys() - self._seen):
            if self._checked.scope in ("all", key):
                yield ChainReport(key, 0, Break(key, 1, "the anchor knows this chain, and it is not here"))
            else:
                self._checked.unanchored.append(key)


class _Chain:
    """One chain while its rows pass by. Only the first break counts; the rows after it may explain it."""

    def __init__(self, key: str, anchor: tuple[int, str] | None) -> None:
        self.key = key
        self._anchor = anchor
        self._rows = 0
        self._last_seq = 0
        self._last_hash = ""
        self._found: Break | None = None
        self._missing = 0
        """The row whose place another one has, until it turns up."""

    def take(self, row: dict[str, Any]) -> None:
        """Look at the next row."""
        self._rows += 1
        seq, last = row["seq"], self._last_seq
        if self._found:
            if seq == self._missing:
                self._found = Break(self.key, seq, "is out of order: it stands further down")
                self._missing = 0
            return
        if seq != last + 1:
            self._misplaced(seq, last)
        elif row["prev_hash"] != self._last_hash:
            self._found = Break(self.key, seq, "does not follow the row before it")
        elif audit.digest_of({name: row[name] for name in audit.DIGESTED}) != row["hash"]:
            self._found = Break(self.key, seq, "was changed after it was written")
        elif self._anchor and self._anchor[0] == seq and self._anchor[1] != row["hash"]:
            self._found = Break(self.key, seq, "is not the row of the anchor: the chain was rewritten up to here")
        self._last_seq, self._last_hash = seq, row["hash"]

    def _misplaced(self, seq: int, last: int) -> None:
        if seq <= last:
            self._found = Break(self.key, seq, "stands a second time: a row was added or moved")
            return
        self._missing = last + 1
        more = f" (as are those up to {seq - 1})" if seq > last + 2 else ""
        self._found = Break(self.key, self._missing, f"row {self._missing} is missing{more}")

    def report(self, last_seq: Any, last_hash: Any) -> ChainReport:
        """Return what was found, the chain's head and anchor included."""
        return ChainReport(self.key, self._rows, self._found or self._end(last_seq, last_hash))

    def _end(self, last_seq: Any, last_hash: Any) -> Break | None:
        after = self._last_seq + 1
        if last_seq is None:
            return Break(self.key, 1, "its head is missing" if self._rows else "nothing was recorded")
        if type(last_seq) is not int or last_seq > self._last_seq:
            return Break(self.key, after, "the newest rows are missing")
        if last_seq < self._last_seq:
            return Break(self.key, last_seq + 1, "stands after the chain's end: it was added")
        if last_hash != self._last_hash:
            return Break(self.key, last_seq, "is not the row that the chain's head names")
        if self._anchor and self._anchor[0] > self._last_seq:
            return Break(self.key, after, f"the anchor knows {self._anchor[0]} rows: the newest were cut off")
        return None
