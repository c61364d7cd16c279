from datetime import timedelta
from decimal import Decimal

import pytest

from agents.actions import usage
from agents.models import Run
from projects.models import AuditLog
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    return RunFactory(status="running")


def test_usage_adds_up(run: Run) -> None:
    usage.record_usage(run.pk, tokens=100, cost=Decimal("0.5"), now=NOW)
    usage.record_usage(run.pk, tokens=50, cost=Decimal("0.25"), now=NOW + timedelta(minutes=1))

    run.refresh_from_db()
    run.agent.refresh_from_db()
    assert (run.turns, run.tokens_used, run.cost, run.first_request_at) == (2, 150, Decimal("0.75"), NOW)
    assert run.agent.tokens_used == 150


def test_request_stop_is_kept_and_audited(run: Run) -> None:
    assert usage.request_stop(run.pk, "over_budget", now=NOW)

    run.refresh_from_db()
    assert run.stop_requested == "over_budget"
    row = AuditLog.objects.get(action="run.stop_requested")
    assert (row.project_id, row.agent_id, row.details) == (run.project_id, run.agent_id, {"reason": "over_budget"})


def test_first_reason_to_stop_stands(run: Run) -> None:
    usage.request_stop(run.pk, "over_budget", now=NOW)

    assert not usage.request_stop(run.pk, "turn_limit", now=NOW)
    run.refresh_from_db()
    assert run.stop_requested == "over_budget"
    assert AuditLog.objects.filter(action="run.stop_requested").count() == 1


def test_ended_run_is_not_asked_to_stop() -> None:
    assert not usage.request_stop(RunFactory(status="failed").pk, "over_budget", now=NOW)
