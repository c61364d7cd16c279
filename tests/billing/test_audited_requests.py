"""Model requests in the audit log: each once, in batches, after the fact."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import actions
from billing.actions import requests
from billing.models import LedgerEntry, Reservation
from billing.prices import Usage
from projects import audit
from projects.models import AuditChain, AuditLog
from tests.billing.conftest import AGENT, NOW, Reserve

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=1)


def rows() -> list[AuditLog]:
    return list(AuditLog.objects.filter(action="model.requested").order_by("seq"))


def test_each_closed_request_is_recorded_once(reserve: Reserve) -> None:
    settled, released, still_open = reserve("1"), reserve("0.5"), reserve("0.25")
    actions.settle(settled.pk, Usage(input_tokens=1000, output_tokens=10), now=NOW)
    actions.release(released.pk, now=NOW)

    assert actions.audit_requests(LATER) == 2
    assert actions.audit_requests(LATER) == 0

    first, second = rows()
    line = LedgerEntry.objects.get(request_id=settled.pk, kind="settle")
    assert first.object_id == str(settled.pk)
    assert (first.project_id, first.agent_id, first.timestamp) == (settled.project_id, AGENT, LATER)
    assert first.details["cost"] == str(line.amount)
    assert first.details["tokens"]["input"] == 1000
    assert (first.details["line"], first.details["outcome"]) == (str(line.pk), "settled")
    assert (second.object_id, second.details["outcome"], second.details["cost"]) == (str(released.pk), "released", 0)
    actions.settle(still_open.pk, Usage(output_tokens=1), now=NOW)
    assert actions.audit_requests(LATER) == 1
    chain = rows()[0].chain
    every = AuditLog.objects.filter(chain=chain).order_by("seq")
    assert audit.verify(every, AuditChain.objects.get(key=chain)) is None


def test_expired_request_is_recorded_at_its_full_amount(reserve: Reserve) -> None:
    held = reserve("1")
    actions.expire_reservations(NOW + timedelta(hours=1))
    actions.audit_requests(LATER)
    (row,) = rows()
    assert (row.object_id, row.details["outcome"], row.details["cost"]) == (str(held.pk), "expired", "1.000000")


def test_many_requests_are_recorded_in_few_statements(reserve: Reserve, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        held = reserve("0.1")
        actions.settle(held.pk, Usage(output_tokens=number), now=NOW)
    with CaptureQueriesContext(connection) as statements:
        assert actions.audit_requests(LATER) == 7
    assert len([one for one in statements if "INSERT INTO" in one["sql"] and "auditlog" in one["sql"]]) == 1
    Reservation.objects.update(audited=False)
    monkeypatch.setattr(requests, "AUDITED_AT_ONCE", 3)
    assert actions.audit_requests(LATER) == 7


def test_undone_batch_is_recorded_later(reserve: Reserve, monkeypatch: pytest.MonkeyPatch) -> None:
    actions.release(reserve("1").pk, now=NOW)
    with monkeypatch.context() as patch:
        patch.setattr(audit, "_append", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            actions.audit_requests(LATER)
    assert actions.audit_requests(LATER) == 1


def test_nothing_to_record_writes_nothing(reserve: Reserve) -> None:
    reserve("1")
    assert actions.audit_requests(LATER) == 0
    assert rows() == []
