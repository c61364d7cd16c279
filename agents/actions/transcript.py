"""Storing what runs say and do, in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from agents.models import Run, RunEvent
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
    """Append lines to a run's transcript in one statement, and tell who watches. Only its supervisor may call it."""
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
    with transaction.atomic():
        RunEvent.objects.bulk_create(events)
        Run.objects.filter(pk=run.pk).update(last_seq=last)
    run.last_seq = last
    payload = {"projectId": str(run.project_id), "runId": str(run.pk), "lastSeq": last}
    broadcast({"id": None, "type": RUN_EVENTS, "payload": payload}, project_id=run.project_id)
