"""What each run reached and was refused: counted here, written in batches by `agents.actions.egress`."""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from agents.actions import egress as actions
from agents.actions.egress import Seen, Stranger
from agents.gateway.database import Database
from agents.gateway.egress.callers import DATABASE_AWAY
from agents.gateway.egress.policy import Reason
from agents.models import EgressRecord

logger = logging.getLogger(__name__)

EVERY_S = 1.0
# A run that asks for ever new hosts fills one last row instead of the table.
MOST_HOSTS = 500
OTHERS = "(others)"
_MOST_STRANGERS = 200
_STRANGERS_EVERY_S = 60.0

Key = tuple[str, int, str, str]
"""Host, port, decision, reason."""


@dataclass(eq=False)
class Account:
    """What a run has used, and its open connections."""

    run_id: UUID
    bytes_moved: int = 0
    known: set[Key] = field(default_factory=set)
    """The rows of its record."""
    tasks: set["asyncio.Task[object]"] = field(default_factory=set)
    seen_at: float = 0.0
    minute: int = 0
    requests: int = 0
    resolving: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))

    def cut(self) -> None:
        """End all connections of the run."""
        for task in self.tasks:
            task.cancel()


def load(run_id: UUID) -> Account:
    """Return a run's account as far as it is recorded. Reads the database."""
    account = Account(run_id)
    rows = EgressRecord.objects.filter(run_id=run_id)
    for row in rows:
        account.known.add((row.host, row.port, row.decision, row.reason))
        account.bytes_moved += row.bytes_up + row.bytes_down
    return account


def _decision(reason: str) -> EgressRecord.Decision:
    match reason:
        case "":
            return EgressRecord.Decision.ALLOWED
        case Reason.UNRESOLVED | Reason.UNREACHABLE:
            return EgressRecord.Decision.FAILED
        case _:
            return EgressRecord.Decision.REFUSED


class Recorder:
    """Collects decisions and bytes, and writes them once a second. What a killed process held is lost: that second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[tuple[UUID, Key], Seen] = {}
        self._strangers: Counter[tuple[str, str]] = Counter()
        self._strangers_due = 0.0

    def note(self, account: Account, host: str, port: int, reason: str = "") -> Seen:
        """Count what became of a request to a host; without a reason it was reached. `move` adds bytes to it."""
        key = (host, port, _decision(reason).value, reason)
        if key not in account.known and len(account.known) >= MOST_HOSTS:
            key = (OTHERS, 0, *key[2:])
        account.known.add(key)
        seen = self._entry(account.run_id, key)
        seen.requests += 1
        seen.last_at = datetime.now(UTC)
        return seen

    def move(self, account: Account, seen: Seen, *, up: int = 0, down: int = 0) -> None:
        """Count bytes from the sandbox (`up`) and to it (`down`)."""
        account.bytes_moved += up + down
        entry = self._entry(account.run_id, (seen.host, seen.port, seen.decision, seen.reason))
        entry.bytes_up += up
        entry.bytes_down += down

    def note_stranger(self, peer: str, reason: str) -> None:
        """Count a request that showed no token of a working run."""
        if (peer, reason) in self._strangers or len(self._strangers) < _MOST_STRANGERS:
            self._strangers[peer, reason] += 1

    def _entry(self, run_id: UUID, key: Key) -> Seen:
        # Looked up each time: what a flush took away is begun anew.
        if (entry := self._seen.get((run_id, key))) is None:
            now = datetime.now(UTC)
            entry = self._seen[run_id, key] = Seen(run_id, *key, first_at=now, last_at=now)
        return entry

    async def flush(self, *, all_of_it: bool = False) -> None:
        """Write what was collected. What cannot be written now is kept for the next time."""
        seen, self._seen = self._seen, {}
        strangers = self._take_strangers(at_once=all_of_it)
        if not seen and not strangers:
            return
        try:
            batch = sorted(seen.values(), key=lambda one: one.key)
            await self._database.call(actions.record, batch, strangers, now=datetime.now(UTC))
        except DATABASE_AWAY as error:
            logger.warning("the egress record cannot be written now: %s", error)
            self._put_back(seen, strangers)

    def _take_strangers(self, *, at_once: bool) -> list[Stranger]:
        now = time.monotonic()
        if not self._strangers or (now < self._strangers_due and not at_once):
            return []
        self._strangers_due = now + _STRANGERS_EVERY_S
        taken = [Stranger(peer, reason, count) for (peer, reason), count in self._strangers.items()]
        self._strangers.clear()
        return taken

    def _put_back(self, seen: dict[tuple[UUID, Key], Seen], strangers: list[Stranger]) -> None:
        for place, old in seen.items():
            if (new := self._seen.get(place)) is not None:
                old.add(new)
            self._seen[place] = old
        for one in strangers:
            self._strangers[one.peer, one.reason] += one.count
        self._strangers_due = 0.0
