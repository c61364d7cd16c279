"""Storing what runs say and do, in batches. What their agents do with tools goes to the audit log in the same batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents import tool_calls
from agents.actions.verbs import actor_of
from agents.errors import LeaseLost
from agents.models import Run, RunEvent
from agents.states import LEASED_RUN
from projects import audit
from projects.events import RUN_EVENTS
from projects.ids import new_id
from projects.jsontext import storable_json
from projects.live import broadcast

MAX_TEXT_CHARS = 100_000


@dataclass(frozen=True)
class Line:
    """One line of a transcript, as it was seen."""

    kind: RunEvent.Kind
    payload: dict[str, Any]
    at: datetime


def record_lines(run: Run, lines: Sequence[Line]) -> None:
    """Append lines to a run's transcript in one statement, and tell who watches. Only its supervisor may call it.

    The same lines may be given again when it is not known whether they were stored. Raises LeaseLost, with nothing
    stored, when the run is not the caller's any more.
    """
    if not lines:
        return
    first = run.last_seq + 1
    events = [
        RunEvent(
            id=new_id(),
            run=run,
            seq=seq,
            kind=line.kind,
            payload=storable_json(line.payload, max_chars=MAX_TEXT_CHARS),
            created_at=line.at,
        )
        for seq, line in enumerate(lines, first)
    ]
    last = events[-1].seq
    used = [event for event in events if event.kind == RunEvent.Kind.TOOL_USE]
    with audit.journal(by=actor_of(run), now=lines[-1].at) as journal:
        mine = Run.objects.filter(pk=run.pk, lease_owner=run.lease_owner, status__in=LEASED_RUN)
        # What was stored before has its audit rows too.
        stored = mine.select_for_update().values_list("last_seq", flat=True).first() if used else 0
        if stored is None or not mine.update(last_seq=last):
            raise LeaseLost
        for event in used:
            if event.seq > stored:
                details = {"line": event.seq, **tool_calls.described(event.payload)}
                journal.add("tool.called", project_id=run.project_id, obj=run, details=details)
        # One writer: what is there under a number already is this very line.
        RunEvent.objects.bulk_create(events, ignore_conflicts=True)
    run.last_seq = last
    payload = {"projectId": str(run.project_id), "runId": str(run.pk), "lastSeq": last}
    broadcast({"id": None, "type": RUN_EVENTS, "payload": payload}, project_id=run.project_id)
