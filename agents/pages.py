"""What the pages of agents read: no page asks per row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum

from agents import allocation
from agents.actions.workers import RUNTIME_SILENT
from agents.models import Agent, EgressRecord, Run, RunEvent, Verification, Worker
from agents.states import ACTIVE_RUN, AgentStatus, Trust
from agents.transcript import Entry, entry
from agents.upkeep import Table
from projects.models import SquadMember, Task
from projects.secrets import rehearsing
from projects.states import ACTIVE_PROJECT, ProjectStatus, TaskKind, values

TAIL = 400
"""Lines of a transcript on a page. Older ones are a click away."""
BATCH = 200
"""Lines sent at once to a page that follows."""


@dataclass(frozen=True)
class Transcript:
    """A stretch of a run's transcript. `first_seq` and `last_seq` are those of its ends; 0 where there is none."""

    entries: list[Entry]
    first_seq: int
    last_seq: int

    @property
    def has_earlier(self) -> bool:
        """Whether lines before it exist."""
        return self.first_seq > 1


def runs_of(project_id: UUID) -> QuerySet[Run]:
    """Return a project's runs with what a list shows of them."""
    return Run.objects.filter(project_id=project_id).select_related("task", "agent", "worker")


def active_runs(limit: int = 100) -> QuerySet[Run]:
    """Return what runs now in all projects, oldest first."""
    found = Run.objects.filter(status__in=ACTIVE_RUN).select_related("task", "agent", "worker", "project")
    return found.order_by("created_at", "id")[:limit]


def tail(run: Run) -> Transcript:
    """Return the newest lines of a run."""
    return _transcript(run.events.order_by("-seq")[:TAIL], is_reversed=True)


def after(run: Run, seq: int) -> Transcript:
    """Return the lines that follow `seq`."""
    return _transcript(run.events.filter(seq__gt=seq).order_by("seq")[:BATCH])


def before(run: Run, seq: int) -> Transcript:
    """Return the lines that end just before `seq`."""
    return _transcript(run.events.filter(seq__lt=seq).order_by("-seq")[:TAIL], is_reversed=True)


def _transcript(events: QuerySet[RunEvent], *, is_reversed: bool = False) -> Transcript:
    found = list(events)
    if is_reversed:
        found.reverse()
    return Transcript(
        [entry(event) for event in found],
        found[0].seq if found else 0,
        found[-1].seq if found else 0,
    )


def checks_of(run: Run) -> QuerySet[Verification]:
    """Return what the platform observed of a run's change, newest first."""
    return run.verifications.order_by("-created_at", "-id")


@dataclass(frozen=True)
class Reached:
    """How many rows a run's egress record has, and how many of them are refusals."""

    asked: int
    refused: int


def reached_by(run: Run) -> Reached:
    """Return what a run's page says of its egress record, in one statement."""
    refused = Count("id", filter=Q(decision=EgressRecord.Decision.REFUSED))
    return Reached(**run.egress.aggregate(asked=Count("id"), refused=refused))


@dataclass(frozen=True)
class TaskDetail:
    """A task with its attempts, its neighbours in the graph, and the conflicts of its changes."""

    task: Task
    runs: list[Run]
    waits_for: list[Task]
    waited_by: list[Task]
    conflicts: list[Task]


def task_detail(task: Task) -> TaskDetail:
    """Return what the page of a task shows, in four statements."""
    return TaskDetail(
        task,
        list(Run.objects.filter(task=task).select_related("agent", "worker").order_by("-attempt")),
        list(Task.objects.filter(dependent_edges__task=task).order_by("id")),
        list(Task.objects.filter(dependency_edges__depends_on=task).order_by("id")),
        list(Task.objects.filter(parent=task, kind=TaskKind.CONFLICT).order_by("id")),
    )


def squad(project_ids: Sequence[UUID] | None = None) -> QuerySet[Agent]:
    """Return agents at hand with their cost; of all projects, or of these."""
    found = Agent.objects.exclude(status=AgentStatus.TERMINATED).select_related("project", "member")
    if project_ids is not None:
        found = found.filter(project_id__in=project_ids)
    paid = Count("runs", filter=Q(runs__started_at__isnull=False, runs__rehearsal=False))
    return found.annotate(cost=Sum("runs__cost"), run_count=Count("runs"), paid_count=paid)


def rehearsed(agents: Sequence[Agent]) -> frozenset[UUID]:
    """Return those of the agents, with the counts of `squad`, for whom the rehearsal model answers alone."""
    idle = {agent.project_id for agent in agents if not agent.run_count}  # type: ignore[attr-defined]
    would_be = rehearsing(idle)
    return frozenset(
        agent.pk
        for agent in agents
        if (not agent.paid_count if agent.run_count else agent.project_id in would_be)  # type: ignore[attr-defined]
    )


def squad_members() -> QuerySet[SquadMember]:
    """Return the roles of the squads whose projects have not ended."""
    found = SquadMember.objects.filter(squad__project__status__in=values(ACTIVE_PROJECT | {ProjectStatus.PAUSED}))
    return found.select_related("squad__project").order_by("squad__project__name", "role")


def current_runs(agents: Sequence[Agent]) -> dict[UUID, Run]:
    """Return the active run of each agent that has one."""
    found = Run.objects.filter(agent__in=[agent.pk for agent in agents], status__in=ACTIVE_RUN)
    return {run.agent_id: run for run in found.select_related("task")}


def workers() -> QuerySet[Worker]:
    """Return all workers with how many runs each has now."""
    busy = Count("runs", filter=Q(runs__status__in=ACTIVE_RUN))
    return Worker.objects.annotate(busy=busy).order_by("status", "name")


def sensitive_tasks() -> QuerySet[Task]:
    """Return the ready tasks that only a trusted worker may get."""
    return Task.objects.filter(status="ready", project__config__privacy=Trust.SENSITIVE)


_REASONS = {
    "disk_short": "Its disk is nearly full: it takes no new run.",
    "memory_short": "It has little free memory: it takes no new run.",
    "clock_ahead": "Its clock is ahead of the others: set it right.",
    "worker_stopping": "It is about to stop: it takes no new run.",
    "runtime_unavailable": "Nothing can run agents there.",
    RUNTIME_SILENT: "What runs agents there does not answer: it takes no new run until it does.",
}


_PROMISED = "What is free of its disk is promised to what runs there: it takes no new run until some is given back."
_READING = (
    ("cpu_percent", 1, "% of CPU"),
    ("memory_free_mb", 1024, "GB memory free"),
    ("disk_free_mb", 1024, "GB disk free"),
    ("disk_promised_mb", 1024, "GB of it promised"),
)


@dataclass(frozen=True)
class ShownUpkeep:
    """How the database is looked after: when last, by beat or by autovacuum, and which tables wait for it."""

    vacuumed_at: datetime | None
    analyzed_at: datetime | None
    overdue: list[Table]


def shown_upkeep(tables: Sequence[Table]) -> ShownUpkeep:
    """Return what the page of workers says of the database's upkeep."""
    return ShownUpkeep(
        max((table.vacuumed_at for table in tables if table.vacuumed_at), default=None),
        max((table.analyzed_at for table in tables if table.analyzed_at), default=None),
        [table for table in tables if table.is_overdue],
    )


@dataclass(frozen=True)
class ShownWorker:
    """A worker as its page has it. `facts`: what the machine is; `load`: how it is now, both in words."""

    worker: Worker
    is_late: bool
    reason: str
    facts: str
    load: str


def shown_worker(worker: Worker, *, is_late: bool) -> ShownWorker:
    """Return what the page says of a worker, as far as it was reported."""
    return ShownWorker(
        worker,
        is_late,
        _reason(worker),
        _words(worker.info, (("cpus", 1, "CPUs"), ("memory_mb", 1024, "GB memory"))),
        _words(worker.load, _READING),
    )


def _reason(worker: Worker) -> str:
    if not worker.reason and allocation.fits_on_disk(worker.load, busy=0, unmade=0) == 0:
        return _PROMISED
    said = _REASONS.get(worker.reason, worker.reason)
    problem = worker.load.get("runtime_problem", "")
    return f"{said} {problem}" if problem and worker.reason == RUNTIME_SILENT else said


def _words(reported: dict[str, Any], known: tuple[tuple[str, int, str], ...]) -> str:
    found = ((reported.get(key), unit, label) for key, unit, label in known)
    return ", ".join(f"{value / unit:.0f} {label}" for value, unit, label in found if isinstance(value, int | float))
