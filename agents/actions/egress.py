"""Writing down what runs reached and were refused outside of their sandboxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F

from agents.models import EgressRecord, Run
from projects import audit
from projects.actors import Actor
from projects.ids import new_id

EGRESS = Actor.system("egress")


@dataclass
class Seen:
    """What happened since the last time between one run and one host, port, decision and reason."""

    run_id: UUID
    host: str
    port: int
    decision: str
    reason: str
    first_at: datetime
    last_at: datetime
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def key(self) -> tuple[UUID, str, int, str, str]:
        """What there is one row of."""
        return (self.run_id, self.host, self.port, self.decision, self.reason)

    def add(self, later: "Seen") -> None:
        """Count in what happened after that."""
        self.requests += later.requests
        self.bytes_up += later.bytes_up
        self.bytes_down += later.bytes_down
        self.last_at = max(self.last_at, later.last_at)


@dataclass(frozen=True)
class Stranger:
    """Requests that came from an address without a token of a working run."""

    peer: str
    reason: str
    count: int


def record(batch: Sequence[Seen], strangers: Sequence[Stranger], *, now: datetime) -> None:
    """Add to the runs' records, in the order given, and to the audit log what they had not reached or asked before.

    `batch` names no key twice and is sorted by it, so that two processes lock rows in one order. Runs that are gone are
    left out.
    """
    with audit.journal(by=EGRESS, now=now) as journal:
        runs = {run.pk: run for run in Run.objects.filter(pk__in={one.run_id for one in batch})}
        known = set(
            EgressRecord.objects.filter(run_id__in=runs).values_list("run_id", "host", "port", "decision", "reason")
        )
        there = [one for one in batch if one.run_id in runs]
        _create([one for one in there if one.key not in known], runs, journal)
        for one in there:
            if one.key in known:
                _add(one)
        for stranger in strangers:
            details = {"from": stranger.peer, "reason": stranger.reason, "requests": stranger.count}
            journal.add("egress.refused", details=details)


def _create(new: list[Seen], runs: dict[UUID, Run], journal: audit.Journal) -> None:
    EgressRecord.objects.bulk_create(
        EgressRecord(
            id=new_id(),
            run_id=one.run_id,
            host=one.host,
            port=one.port,
            decision=one.decision,
            reason=one.reason,
            requests=one.requests,
            bytes_up=one.bytes_up,
            bytes_down=one.bytes_down,
            first_at=one.first_at,
            last_at=one.last_at,
        )
        for one in new
    )
    for one in new:
        run = runs[one.run_id]
        journal.add(
            f"egress.{one.decision}",
            project_id=run.project_id,
            agent_id=run.agent_id,
            obj=run,
            details={"host": one.host, "port": one.port, "reason": one.reason},
        )


def _add(one: Seen) -> None:
    run_id, host, port, decision, reason = one.key
    EgressRecord.objects.filter(run_id=run_id, host=host, port=port, decision=decision, reason=reason).update(
        requests=F("requests") + one.requests,
        bytes_up=F("bytes_up") + one.bytes_up,
        bytes_down=F("bytes_down") + one.bytes_down,
        last_at=one.last_at,
    )
