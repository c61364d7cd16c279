"""Storing what runs say and do, in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from agents.errors import LeaseLost
from agents.models import Run, RunEvent
from agents.states import LEASED_RUN
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
    with transaction.atomic():
        mine = Run.objects.filter(pk=run.pk, lease_owner=run.lease_owner, status__in=LEASED_RUN)
        if not mine.update(last_seq=last):
            raise LeaseLost
        # One writer: what is there under a number already is this very line.
        RunEvent.objects.bulk_create(events, ignore_conflicts=True)
    run.last_seq = last
    payload = {"projectId": str(run.project_id), "runId": str(run.pk), "lastSeq": last}
    broadcast({"id": None, "type": RUN_EVENTS, "payload": payload}, project_id=run.project_id)
