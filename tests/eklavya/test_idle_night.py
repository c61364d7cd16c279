"""A day on which nobody decides anything: the periodic work as beat sends it, on simulated time.

Behind it are a real gateway and a real server of the rehearsal model, whose requests are counted, and a program of an
agent that has booted and waits.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from starlette.types import Receive, Scope, Send

from agents import sandboxes
from agents.actions import workers
from agents.clock import HouseClock
from agents.gateway.app import build
from agents.machine import Reading
from agents.models import Run, Worker
from agents.rehearsal.server import app as rehearsal
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.standby import Standbys
from billing.models import Reservation
from eklavya.celery import app
from eklavya.management.commands.setup import PERIODIC
from learning.actions import load_prompts
from projects.models import AuditLog
from projects.states import TaskKind
from projects.workflows import hosting
from tests.agents.gateway.harness import ask, serve, start_run
from tests.agents.supervisor.line import processes_of, seed, task_of, wait_until
from tests.factories import (
    TESTER,
    AgentFactory,
    ApprovalFactory,
    ProjectFactory,
    RunFactory,
    TaskFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db(transaction=True)
BEGIN = datetime(2026, 3, 1, 18, tzinfo=UTC)
# Every task at its own schedule for so long (beat sweeps every 5 s), and then each once an hour: what one adds is seen.
EXACTLY = timedelta(minutes=1)
STEP = timedelta(hours=1)
READING = Reading(cpu_percent=1, memory_free_mb=4000, memory_mb=8000, disk_free_mb=50_000)


class Counted:
    """The rehearsal model's server, which counts what it is asked, down to its health."""

    requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += scope["type"] == "http"
        await rehearsal(scope, receive, send)


@pytest.fixture
def model(settings: Settings, tmp_path: Path) -> Iterator[Counted]:
    """The model, and a gateway before it, as processes of theirs would be."""
    settings.EKLAVYA_VAR, settings.EKLAVYA_RUNTIME = tmp_path, "local"
    sandboxes.choice.cache_clear()
    counted = Counted()
    with serve(counted) as address:
        settings.EKLAVYA_MODEL_URL = address
        with serve(build()) as gateway:
            settings.EKLAVYA_GATEWAY_PORT = int(gateway.rpartition(":")[2])
            yield counted
    sandboxes.choice.cache_clear()


@pytest.fixture
def standbys(model: Counted) -> Iterator[Standbys]:
    """A program that has booted for a task that waits."""

    def keeper() -> LeaseKeeper:
        raise AssertionError("it gets no run")

    made = Standbys(keeper=keeper, runtime=sandboxes.runtime, clock=timezone.now, size=1, keep_s=600)
    task = task_of(TaskKind.BUILD, status="blocked", reason="awaiting_answer")
    load_prompts(by=TESTER, now=timezone.now())
    seed(task.project)
    agent = AgentFactory(project=task.project, agent_type=task.role, status="blocked")
    made._begin(RunFactory.build(task=task, project=task.project, agent=agent, worker=None))
    (run_id,) = made.ids()
    wait_until(lambda: processes_of(Run(pk=run_id)))
    yield made
    made.close()


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


@pytest.mark.cli
def test_an_idle_day_asks_no_model_and_adds_no_row(
    model: Counted, standbys: Standbys, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(hosting.stop)
    clock = [BEGIN]
    monkeypatch.setattr(timezone, "now", lambda: clock[0])
    monkeypatch.setattr(HouseClock, "__call__", lambda self: clock[0])
    worker = fill()

    last = dict.fromkeys(PERIODIC, BEGIN - timedelta(days=2))

    def live(long: timedelta, step: timedelta) -> None:
        end = clock[0] + long
        while clock[0] < end:
            clock[0] += step
            workers.beat(worker.name, reading=READING, now=clock[0])
            for task, seconds in PERIODIC.items():
                if clock[0] - last[task] >= timedelta(seconds=seconds):
                    app.tasks[task].run()
                    last[task] = clock[0]

    live(timedelta(hours=2), STEP)  # what was left over is found, and what people must hear of is told, once
    before, runs = row_counts(), Run.objects.count()

    live(EXACTLY, timedelta(seconds=min(PERIODIC.values())))
    live(timedelta(hours=24), STEP)

    newest = AuditLog.objects.filter(timestamp__gt=BEGIN + timedelta(hours=2)).values_list("action", flat=True)
    assert row_counts() == before, sorted(newest)
    assert (Run.objects.count(), Reservation.objects.count()) == (runs, 0)
    worker.refresh_from_db()
    assert worker.heartbeat_at == clock[0]
    (waiting,) = standbys.ids()
    assert processes_of(Run(pk=waiting)), "it waits still"
    assert model.requests == 0

    monkeypatch.undo()  # that it would be seen
    _, token = start_run()
    port = settings.EKLAVYA_GATEWAY_PORT
    address = f"http://127.0.0.1:{port}/models/anthropic/v1/messages"
    headers = {"x-api-key": token, "anthropic-version": "2023-06-01"}
    answer = httpx.post(address, json=ask(), headers=headers, timeout=60, trust_env=False)
    assert (answer.status_code, model.requests) == (200, 1), answer.text
