"""Recording the model requests in the audit log, after the fact and in batches: no request waits for its chain."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from billing.actions.warnings import CASHIER
from billing.models import LedgerEntry, Reservation
from projects import audit

AUDITED_AT_ONCE = 500
_CLOSING = (LedgerEntry.Kind.SETTLE, LedgerEntry.Kind.RELEASE)


def audit_requests(now: datetime) -> int:
    """Write the audit row of each request that was closed since, once, and return how many.

    Rows are marked in the transaction that records them, so that none is lost or recorded twice, in whatever order
    they were committed. Any number of sweepers may do it at once.
    """
    audited = 0
    while batch := _audit_batch(now):
        audited += batch
    return audited


def _audit_batch(now: datetime) -> int:
    with audit.journal(by=CASHIER, now=now) as journal:
        closed = (
            Reservation.objects.filter(audited=False).exclude(status=Reservation.Status.OPEN).order_by("created_at")
        )
        found = list(closed.select_for_update(skip_locked=True, no_key=True)[:AUDITED_AT_ONCE])
        lines = _lines([one.pk for one in found])
        for one in found:
            _record(journal, one, lines.get(one.pk))
        Reservation.objects.filter(pk__in=[one.pk for one in found]).update(audited=True)
    return len(found)


def _lines(ids: Sequence[UUID]) -> dict[UUID, LedgerEntry]:
    """Return the ledger line that closed each request."""
    return {line.request_id: line for line in LedgerEntry.objects.filter(request_id__in=ids, kind__in=_CLOSING)}


def _record(journal: audit.Journal, request: Reservation, line: LedgerEntry | None) -> None:
    details = {"run": request.run_id, "model": request.model, "outcome": request.status, "held": request.amount}
    if line is not None:
        tokens = {name: getattr(line, f"{name}_tokens") for name in _TOKENS}
        spent = line.amount if line.kind == LedgerEntry.Kind.SETTLE else 0
        details |= {"line": line.pk, "cost": spent, "closed_at": line.created_at, "tokens": tokens}
    journal.add(
        "model.requested", project_id=request.project_id, agent_id=request.agent_id, obj=request, details=details
    )


_TOKENS = ("input", "output", "cache_write", "long_cache_write", "cache_read")
