"""A day on which nobody decides anything: the periodic work as beat sends it, on simulated time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from agents import sandboxes
from agents.actions import workers
from agents.clock import HouseClock
from agents.machine import Reading
from agents.models import Run, Worker
from billing.models import Reservation
from eklavya.celery import app
from eklavya.management.commands.setup import PERIODIC
from projects.models import AuditLog
from projects.workflows import hosting
from tests.factories import ApprovalFactory, ProjectFactory, RunFactory, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db(transaction=True)
BEGIN = datetime(2026, 3, 1, 18, tzinfo=UTC)
# Beat sweeps every 5 s; here each task comes as often as that would show what it adds.
STEP = timedelta(hours=1)
READING = Reading(cpu_percent=1, memory_free_mb=4000, memory_mb=8000, disk_free_mb=50_000)


def row_counts() -> dict[str, int]:
    """Rows of each table of ours, and of the periodic tasks'."""
    tables = [model._meta.db_table for model in apps.get_models()]
    counts = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM \"{table}\"" for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(counts)
        return dict(cursor.fetchall())


def fill() -> Worker:
    """Everything that can wait: for an answer, for a person, for nothing any more."""
    for status in ("planning", "demo", "building", "paused", "complete", "cancelled"):
        extra: dict[str, Any] = {"paused_from": "building"} if status == "paused" else {}
        ProjectFactory(status=status, **extra)
    building = ProjectFactory(status="building")
    TaskFactory(project=building, status="blocked", reason="attempts_exhausted")
    ApprovalFactory(project=building)
    RunFactory(status="succeeded")
    TaskFactory(status="ready", project=ProjectFactory(status="paused", paused_from="building"))
    worker: Worker = WorkerFactory(name="atlas")
    return worker


def test_an_idle_day_asks_no_model_and_adds_no_row(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    settings.EKLAVYA_VAR, settings.EKLAVYA_RUNTIME = tmp_path, "local"
    sandboxes.choice.cache_clear()
    request.addfinalizer(hosting.stop)
    clock = [BEGIN]
    monkeypatch.setattr(timezone, "now", lambda: clock[0])
    monkeypatch.setattr(HouseClock, "__call__", lambda self: clock[0])
    worker = fill()

    def live(hours: float) -> None:
        end, last = clock[0] + timedelta(hours=hours), dict.fromkeys(PERIODIC, BEGIN - timedelta(days=2))
        while clock[0] < end:
            clock[0] += STEP
            workers.beat(worker.name, reading=READING, now=clock[0])
            for task, seconds in PERIODIC.items():
                if clock[0] - last[task] >= timedelta(seconds=seconds):
                    app.tasks[task].run()
                    last[task] = clock[0]

    live(2)  # what was left over is found, and what people must hear of is told, once
    before, runs = row_counts(), Run.objects.count()

    live(24)

    sandboxes.choice.cache_clear()
    newest = AuditLog.objects.filter(timestamp__gt=BEGIN + timedelta(hours=2)).values_list("action", flat=True)
    assert row_counts() == before, sorted(newest)
    assert (Run.objects.count(), Reservation.objects.count()) == (runs, 0)
    worker.refresh_from_db()
    assert worker.heartbeat_at == clock[0]
