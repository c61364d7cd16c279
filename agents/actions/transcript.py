"""Storing what runs say and do, in batches. What their agents do with tools goes to the audit log in the same batch.

One transaction stores the lines of any number of runs. It waits for no run's row while it has another's, so it
is in nobody's way: a run whose row, or whose audit chain, somebody else has at that moment comes with the next batch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from django.db import connection

from agents import tool_calls
from agents.actions.verbs import actor_of
from agents.errors import LeaseLost
from agents.models import Run, RunEvent
from agents.states import LEASED_RUN
from projects import audit
from projects.actors import Actor
from projects.events import RUN_EVENTS
from projects.ids import new_id
from projects.jsontext import storable_json
from projects.live import News, broadcast_many

MAX_TEXT_CHARS = 100_000
TRANSCRIPTS = Actor.system("transcripts")

_MOVE = """
UPDATE agents_run r SET last_seq = v.last FROM unnest(%s::uuid[], %s::bigint[]) AS v (id, last) WHERE r.id = v.id
"""
# One writer: what is there under a number already is this very line. All as one JSON text: written in C, while each
# element of an array would be quoted in Python, which was half of what storing takes.
_INSERT = """
INSERT INTO agents_runevent (id, run_id, seq, kind, payload, created_at)
SELECT id, run_id, seq, kind, payload, created_at
FROM json_to_recordset(%s::json)
    AS v (id uuid, run_id uuid, seq bigint, kind text, payload jsonb, created_at timestamptz)
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Line:
    """One line of a transcript, as it was seen."""

    kind: RunEvent.Kind
    payload: dict[str, Any]
    at: datetime


class Said(NamedTuple):
    """What a run has said since its lines were stored last, in order; at least one line."""

    run: Run
    lines: Sequence[Line]


class NotStored(NamedTuple):
    """The runs of a batch of which nothing was stored.

    `lost` are not their supervisor's any more. Of `busy` the row, or the audit chain that their calls go to, was
    somebody else's at that moment: try again.
    """

    lost: frozenset[UUID]
    busy: frozenset[UUID]


class _Row(TypedDict):
    id: str
    run_id: str
    seq: int
    kind: str
    payload: Any
    created_at: str


def record_lines(run: Run, lines: Sequence[Line]) -> None:
    """Append lines to one run's transcript, waiting for its row; otherwise as `record_together`.

    Raises LeaseLost, with nothing stored, when the run is not the caller's any more.
    """
    if lines and _record([Said(run, lines)], waits=True).lost:
        raise LeaseLost


def record_together(said: Sequence[Said]) -> NotStored:
    """Append lines to the transcripts of several runs in one transaction, and tell who watches.

    Only the runs' supervisor may call it, and names each run once. The same lines may be given again when it is not
    known whether they were stored. A run that is not the caller's any more, or is busy, is left out alone.
    """
    return _record(said, waits=False) if said else NotStored(frozenset(), frozenset())


def _record(said: Sequence[Said], *, waits: bool) -> NotStored:
    latest = max(one.lines[-1].at for one in said)
    with audit.journal(by=TRANSCRIPTS, now=latest, is_whole=True):
        stored = _lock(said, waits=waits)
        left_out = [one.run for one in said if one.run.pk not in stored]
        busy = set() if waits else _still_mine(left_out)
        mine = [one for one in said if one.run.pk in stored]
        if not waits:
            mine, late = _apart(mine)
            busy |= late
        rows: list[_Row] = []
        for one in mine:
            rows.extend(_rows(one, stored[one.run.pk]))
        if rows:
            with connection.cursor() as cursor:
                runs = [one.run.pk for one in mine]
                cursor.execute(_MOVE, [runs, [one.run.last_seq + len(one.lines) for one in mine]])
                cursor.execute(_INSERT, [json.dumps(rows)])
    # It is committed: from here on nothing may raise, or the same lines would come again under other numbers.
    for one in mine:
        one.run.last_seq += len(one.lines)
    broadcast_many(_news(one.run) for one in mine)
    return NotStored(frozenset(run.pk for run in left_out) - busy, frozenset(busy))


def _lock(said: Sequence[Said], *, waits: bool) -> dict[UUID, int]:
    """Lock the rows of the runs that are still held by who gives their lines; return what is stored of each."""
    owners = {one.run.pk: one.run.lease_owner for one in said}
    held = Run.objects.filter(pk__in=owners, status__in=LEASED_RUN)
    rows = held.select_for_update(no_key=True, skip_locked=not waits).values_list("pk", "lease_owner", "last_seq")
    return {pk: last_seq for pk, owner, last_seq in rows if owner == owners[pk]}


def _apart(said: Sequence[Said]) -> tuple[list[Said], set[UUID]]:
    """Part those whose audit chains are free, and now ours, from the runs whose chains somebody else has."""
    calling = [one.run for one in said if any(line.kind == RunEvent.Kind.TOOL_USE for line in one.lines)]
    free = audit.lock_free({str(run.project_id) for run in calling})
    late = {run.pk for run in calling if str(run.project_id) not in free}
    return [one for one in said if one.run.pk not in late], late


def _still_mine(runs: Sequence[Run]) -> set[UUID]:
    """Return which of them are held by who asks: they were left out because somebody had their rows."""
    if not runs:
        return set()
    owners = {run.pk: run.lease_owner for run in runs}
    rows = Run.objects.filter(pk__in=owners, status__in=LEASED_RUN).values_list("pk", "lease_owner")
    return {pk for pk, owner in rows if owner == owners[pk]}


def _rows(said: Said, stored: int) -> list[_Row]:
    """Return the rows of a run's lines, and note its tool calls in the audit log, but not those up to `stored`: what
    was stored before has its audit rows too."""
    run, lines = said
    rows: list[_Row] = []
    calls = []
    run_id = str(run.pk)
    for seq, line in enumerate(lines, run.last_seq + 1):
        payload = storable_json(line.payload, max_chars=MAX_TEXT_CHARS)
        rows.append(
            _Row(
                id=str(new_id()),
                run_id=run_id,
                seq=seq,
                kind=line.kind.value,
                payload=payload,
                created_at=line.at.isoformat(),
            )
        )
        if line.kind == RunEvent.Kind.TOOL_USE and seq > stored:
            calls.append({"line": seq, **tool_calls.described(payload)})
    if calls:
        with audit.journal(by=actor_of(run), now=lines[-1].at) as journal:
            for details in calls:
                journal.add("tool.called", project_id=run.project_id, obj=run, details=details)
    return rows


def _news(run: Run) -> News:
    """Return what tells who watches. It is a hint: a browser that misses it sees the lines with the next."""
    payload = {"projectId": str(run.project_id), "runId": str(run.pk), "lastSeq": run.last_seq}
    return News({"id": None, "type": RUN_EVENTS, "payload": payload}, run.project_id)
