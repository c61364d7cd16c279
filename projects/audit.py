"""Writing the audit log: one transaction, one journal, one append to each chain at its end.

    with audit.journal(by=actor, now=now) as journal:
        ... change rows ...
        journal.add("task.completed", project_id=task.project_id, obj=task, details={...})

The journal of the outermost `with` appends everything in one batch just before the commit. So the change and its record
commit together, a chain's head is locked as briefly as possible, and always after every other lock: no deadlock
between two transactions that record in different order.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction

from projects.actors import Actor
from projects.bulk import insert_all
from projects.events import EVENT_TYPES, Event, Published, publish
from projects.ids import new_id
from projects.jsontext import storable_json, storable_text
from projects.models import AuditChain, AuditLog
from projects.models.audit import ACCOUNT_CHAIN

MAX_DETAIL_CHARS = 4_000
DIGESTED = (
    "chain",
    "seq",
    "timestamp",
    "project_id",
    "agent_id",
    "actor_kind",
    "actor_id",
    "actor_name",
    "action",
    "object_type",
    "object_id",
    "details",
    "event_type",
    "event_payload",
    "prev_hash",
)


_MOVE_HEADS = """
UPDATE projects_auditchain AS chain SET last_seq = moved.last_seq, last_hash = moved.last_hash
FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS moved (key, last_seq, last_hash) WHERE chain.key = moved.key
"""


@dataclass
class Journal:
    """What the open transaction will record. `by` and `now` are those of the `with` it was opened by."""

    by: Actor
    now: datetime
    is_whole: bool = False
    _rows: list[AuditLog] = field(default_factory=list)

    def add(
        self,
        action: str,
        *,
        obj: models.Model | None = None,
        project_id: UUID | None = None,
        agent_id: UUID | None = None,
        details: dict[str, Any] | None = None,
        event: Event | None = None,
    ) -> None:
        """Record `action` ("noun.verb"), on the project's chain, or the account's where `project_id` is None.

        `details` is JSON; its strings are cut at MAX_DETAIL_CHARS. With `event` the row is also a live event.
        """
        assert event is None or event.type in EVENT_TYPES, event
        self._rows.append(
            AuditLog(
                id=new_id(),
                chain=str(project_id) if project_id else ACCOUNT_CHAIN,
                timestamp=self.now,
                project_id=project_id,
                agent_id=agent_id or self.by.agent_id,
                actor_kind=self.by.kind.value,
                actor_id=self.by.id,
                actor_name=self.by.name,
                action=action,
                object_type=obj._meta.model_name or "" if obj else "",
                object_id=str(obj.pk) if obj else "",
                details=_plain(details or {}),
                event_type=event.type if event else "",
                event_payload=_plain(event.payload) if event else None,
            )
        )


_current: ContextVar[Journal | None] = ContextVar("audit_journal", default=None)


@contextmanager
def journal(*, by: Actor, now: datetime, is_whole: bool = False) -> Iterator[Journal]:
    """Open a transaction whose changes are recorded. Nests: an inner one joins the outer one's batch.

    When an inner one raises and the outer goes on, its rows go with its savepoint. A whole one goes on after nothing:
    it stands or falls with all that is inside, which spares two statements for each.
    """
    outer = _current.get()
    if outer is not None:
        yield from _join(outer, by=by, now=now)
        return
    own = Journal(by, now, is_whole)
    token = _current.set(own)
    try:
        with transaction.atomic():
            yield own
            if transaction.get_rollback():
                raise transaction.TransactionManagementError("a whole journal went on after what failed inside of it")
            _append(own._rows)
    finally:
        _current.reset(token)


def _join(outer: Journal, *, by: Actor, now: datetime) -> Iterator[Journal]:
    kept = len(outer._rows)
    try:
        with transaction.atomic(savepoint=not outer.is_whole):
            yield Journal(by, now, outer.is_whole, outer._rows)
    except BaseException:
        del outer._rows[kept:]
        raise


def lock_free(chains: Collection[str]) -> set[str]:
    """Lock, until the transaction ends, those of the chains that nobody else has; return them.

    For who must not wait with what it has locked already. One that is not there yet is free.
    """
    if not chains:
        return set()
    heads = AuditChain.objects.filter(key__in=chains)
    locked = set(heads.select_for_update(skip_locked=True).values_list("key", flat=True))
    if len(locked) == len(chains):
        return locked
    return set(chains) - set(heads.exclude(key__in=locked).values_list("key", flat=True))


def _append(rows: list[AuditLog]) -> None:
    """Give each row its place in its chain and write all at once. Chains are locked in sorted order."""
    if not rows:
        return
    by_chain: dict[str, list[AuditLog]] = defaultdict(list)
    for row in rows:
        by_chain[row.chain].append(row)
    AuditChain.objects.bulk_create([AuditChain(key=key) for key in sorted(by_chain)], ignore_conflicts=True)
    heads = list(AuditChain.objects.select_for_update().filter(key__in=by_chain).order_by("key"))
    for head in heads:
        for row in by_chain[head.key]:
            row.seq = head.last_seq = head.last_seq + 1
            row.prev_hash = head.last_hash
            row.hash = head.last_hash = digest(row)
    with connection.cursor() as cursor:
        columns = zip(*((head.key, head.last_seq, head.last_hash) for head in heads), strict=True)
        cursor.execute(_MOVE_HEADS, [list(column) for column in columns])
    insert_all(AuditLog, rows)
    transaction.on_commit(partial(publish, [_published(row) for row in rows]))


def _published(row: AuditLog) -> Published:
    return Published(row.id, row.project_id, row.action, row.object_id, row.details, row.event_type, row.event_payload)


def digest(row: AuditLog) -> str:
    """Return the SHA-256 of the row's canonical JSON (`content`)."""
    return digest_of(content(row))


def content(row: AuditLog) -> dict[str, Any]:
    """Return what the digest of a row is made of, as JSON: times in UTC to the microsecond, ids as text."""
    found = {name: getattr(row, name) for name in DIGESTED}
    found["timestamp"] = row.timestamp.astimezone(UTC).isoformat(timespec="microseconds")
    for name in ("project_id", "agent_id"):
        found[name] = str(found[name]) if found[name] else None
    return found


def digest_of(found: dict[str, Any]) -> str:
    """Return the SHA-256 of a row's content as canonical JSON: sorted keys, no blanks. Needs no database."""
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value as PostgreSQL will give it back: dates, ids and decimals as text."""
    if all(type(item) in _SIMPLE for item in value.values()):  # most rows: a quarter of the processor time
        return {storable_text(key, max_chars=MAX_DETAIL_CHARS): _simple(item) for key, item in value.items()}
    text = json.dumps(storable_json(value, max_chars=MAX_DETAIL_CHARS), cls=DjangoJSONEncoder)
    plain: dict[str, Any] = json.loads(text, parse_float=_plain_number)
    return plain


_SIMPLE = frozenset({str, UUID, int, bool, type(None)})


def _simple(item: str | UUID | int | None) -> str | int | None:
    if isinstance(item, UUID):
        return str(item)
    return storable_text(item, max_chars=MAX_DETAIL_CHARS) if isinstance(item, str) else item


def _plain_number(text: str) -> int | float:
    """Read a number as it comes back: PostgreSQL writes 1e+22 out and knows no negative zero."""
    number = float(text)
    return int(number) if number.is_integer() else number


@dataclass(frozen=True)
class Break:
    """The first place where a chain does not hold."""

    chain: str
    seq: int
    problem: str


def verify(rows: Iterable[AuditLog], head: AuditChain) -> Break | None:
    """Return the first break of one chain, or None. `rows` are all of its rows in order of `seq`."""
    prev_hash, expected = "", 1
    for row in rows:
        if row.seq != expected:
            return Break(head.key, expected, f"row {expected} is missing")
        if row.prev_hash != prev_hash:
            return Break(head.key, row.seq, "does not follow the row before it")
        if digest(row) != row.hash:
            return Break(head.key, row.seq, "was changed after it was written")
        prev_hash, expected = row.hash, row.seq + 1
    if (head.last_seq, head.last_hash) != (expected - 1, prev_hash):
        return Break(head.key, expected, "the newest rows are missing")
    return None
