"""A house in which nobody decides anything, and the beat's work in it on simulated time.

Behind it are a real gateway and a real server of the rehearsal model, whose requests are counted, and a program of an
agent that has booted and waits.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.conf import settings as configured
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from starlette.types import Receive, Scope, Send

from agents import sandboxes
from agents.actions import workers
from agents.api.remote import HEARTBEAT_S
from agents.clock import HouseClock
from agents.gateway.app import build
from agents.machine import Reading
from agents.models import Run, Worker
from agents.rehearsal.server import app as rehearsal
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.standby import Standbys
from eklavya.celery import app
from eklavya.management.commands.setup import PERIODIC
from learning.actions import load_prompts
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

READING = Reading(cpu_percent=1, memory_free_mb=4000, memory_mb=8000, disk_free_mb=50_000)
HOUR = timedelta(hours=1)
HEARTBEAT = "a worker's heartbeat"
# What the work of one machine asks of the others: to clear up after themselves.
HINTS = {"agents.tasks.tidy", "demos.tasks.keep_previews"}


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

    # Kept by the clock on the wall, on which a day takes some minutes, and on a busy machine an hour.
    made = Standbys(keeper=keeper, runtime=sandboxes.runtime, clock=timezone.now, size=1, keep_s=4 * 3600)
    task = task_of(TaskKind.BUILD, status="blocked", reason="awaiting_answer")
    load_prompts(by=TESTER, now=timezone.now())
    seed(task.project)
    agent = AgentFactory(project=task.project, agent_type=task.role, status="blocked")
    made._begin(RunFactory.build(task=task, project=task.project, agent=agent, worker=None))
    (run_id,) = made.ids()
    wait_until(lambda: processes_of(Run(pk=run_id)))
    yield made
    made.close()


@pytest.fixture
def house(standbys: Standbys) -> "Iterator[Callable[..., House]]":
    """Make the house, as of a moment, with so many beats of which each sends."""

    def make(begin: datetime, *, beats: int = 1) -> House:
        return House(begin, fill(), standbys, beats)

    yield make
    hosting.stop()


def fill() -> Worker:
    """Everything that can wait: for an answer, for a person, for nothing any more."""
    for status in ("planning", "demo", "building", "paused", "complete", "cancelled"):
        extra: dict[str, Any] = {"paused_from": "building"} if status == "paused" else {}
        ProjectFactory(status=status, **extra)
    building = ProjectFactory(status="building")
    TaskFactory(project=building, status="blocked", reason="attempts_exhausted")
    ApprovalFactory(project=building)
    done = TaskFactory(status="completed", project=ProjectFactory(status="complete"))
    RunFactory(status="succeeded", task=done)
    TaskFactory(status="ready", project=ProjectFactory(status="paused", paused_from="building"))
    worker: Worker = WorkerFactory(name="atlas")
    return worker


def row_counts() -> dict[str, int]:
    """Rows of each table of ours, and of the periodic tasks'; beside them how many tables and partitions there are."""
    tables = [model._meta.db_table for model in apps.get_models()]
    counts = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM \"{table}\"" for table in tables)
    there = "SELECT 'tables', count(*) FROM pg_tables WHERE schemaname = current_schema()"
    with connection.cursor() as cursor:
        cursor.execute(f"{counts} UNION ALL {there}")
        return dict(cursor.fetchall())


@dataclass
class Cost:
    """What a periodic task did: how often it came, its statements, its processor time."""

    calls: int = 0
    statements: int = 0
    cpu_s: float = 0.0


@dataclass
class House:
    """The clock of all, and what is due when. Beat sends each entry at its time; a worker takes it at once."""

    now: datetime
    worker: Worker
    standbys: Standbys
    beats: int = 1
    costs: dict[str, Cost] = field(default_factory=dict)
    _due: list[tuple[datetime, int, str]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.costs = {name: Cost() for name in self.schedule}
        # As after a start: everything at once.
        self._due = [(self.now, next(self._numbers), name) for name in self.schedule]

    @property
    def schedule(self) -> dict[str, int]:
        """Seconds between two times of each: the worker's heartbeat, and all that `manage.py setup` gives beat."""
        return {HEARTBEAT: HEARTBEAT_S, **PERIODIC}

    @contextmanager
    def on_its_clock(self) -> Iterator[None]:
        """Have everything that asks for the time be told the house's."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timezone, "now", lambda: self.now)
            patch.setattr(HouseClock, "__call__", lambda _: self.now)
            yield

    def live(self, until: datetime) -> None:
        """Do everything at its own schedule, in the order of time."""
        while self._due[0][0] <= until:
            at, _, name = heapq.heappop(self._due)
            self.now = max(self.now, at)
            self._do(name)
            # As beat does: so long after it was sent last. What was missed comes once.
            again = self.now + timedelta(seconds=self.schedule[name])
            heapq.heappush(self._due, (again, next(self._numbers), name))
        self.now = until

    def doze(self, until: datetime) -> None:
        """Do everything once an hour only."""
        while self.now < until:
            self.now = min(self.now + HOUR, until)
            for name in self.schedule:
                self._do(name)
        self._due = [(self.now + timedelta(seconds=s), next(self._numbers), n) for n, s in self.schedule.items()]
        heapq.heapify(self._due)

    def _do(self, name: str) -> None:
        cost = self.costs[name]

        def counting(execute: Callable[..., Any], *given: Any) -> Any:
            cost.statements += 1
            return execute(*given)

        with connection.execute_wrapper(counting):
            for _ in range(self.beats):
                began = time.process_time()
                if name == HEARTBEAT:
                    workers.beat(self.worker.name, reading=READING, now=self.now)
                else:
                    app.tasks[name].run()
                cost.calls += 1
                cost.cpu_s += time.process_time() - began

    def assert_alive(self) -> None:
        """The worker is online by its last heartbeat, and the program still waits."""
        self.worker.refresh_from_db()
        assert self.worker.status == "online"
        assert self.now - self.worker.heartbeat_at < timedelta(seconds=HEARTBEAT_S)
        (waiting,) = self.standbys.ids()
        assert processes_of(Run(pk=waiting)), "it waits still"

    def sent(self) -> Counter[str]:
        """Take what lies in the queues, and return which tasks it asks for, and how often."""
        found: Counter[str] = Counter()
        with app.connection_for_read() as broker:
            for queue in (*app.amqp.queues, self.worker.queue):
                while (message := broker.default_channel.basic_get(queue, no_ack=True)) is not None:
                    found[message.headers["task"]] += 1
        return found


def assert_counted(model: Counted) -> None:
    """One request of an agent reaches the model, and is counted."""
    before = model.requests
    _, token = start_run()
    address = f"http://127.0.0.1:{configured.EKLAVYA_GATEWAY_PORT}/models/anthropic/v1/messages"
    headers = {"x-api-key": token, "anthropic-version": "2023-06-01"}
    answer = httpx.post(address, json=ask(), headers=headers, timeout=60, trust_env=False)
    assert (answer.status_code, model.requests - before) == (200, 1), answer.text
