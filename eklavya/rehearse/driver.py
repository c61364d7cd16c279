"""Running projects through the whole line: created, decided for, watched, and checked at the end."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.utils import timezone

from agents.models import Run
from agents.observations import observe
from agents.queries import is_simulated
from agents.sandboxes import repository
from agents.states import RunStatus
from billing.models import Budget
from billing.queries import project_cost
from demos.models import Demo
from demos.states import DemoStatus
from eklavya.rehearse.decider import ADMIN, decide_all
from eklavya.rehearse.times import busy_s
from projects.actions import projects
from projects.actions.projects import NewProject
from projects.models import AuditLog, Project
from projects.queries import progress
from projects.states import ProjectStatus, TaskStatus

POLL_S = 0.1
ENDED = frozenset({ProjectStatus.COMPLETE, ProjectStatus.CANCELLED, ProjectStatus.ARCHIVED, ProjectStatus.PAUSED})


@dataclass(frozen=True)
class News:
    """One thing that happened in a project, for the timeline. `at_s` counts from the start of the rehearsal."""

    at_s: float
    project: str
    action: str
    actor: str
    details: dict[str, Any]


@dataclass
class Outcome:
    """What became of one project. `problems` is empty when all is well."""

    project_id: str
    name: str
    status: str
    wall_s: float
    busy_s: float = 0.0
    """Of that, with an agent's process or a test at work."""
    commit: str = ""
    tests_run: int = 0
    cost: Decimal = Decimal(0)
    simulated: bool = False
    """Whether nobody pays the cost: only the rehearsal model answered."""
    runs: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    preview_url: str = ""
    repository: str = ""
    problems: list[str] = field(default_factory=list)


class Rehearsal:
    """Some projects at once. `tell` is called with each piece of news, `tick` after each look, ten times a second."""

    def __init__(
        self,
        briefs: Sequence[str],
        *,
        demo_only: bool,
        timeout_s: float,
        tell: Callable[[News], None],
        tick: Callable[[list[tuple[str, int]]], None],
    ) -> None:
        self._briefs = briefs
        self._demo_only = demo_only
        self._timeout_s = timeout_s
        self._tell = tell
        self._tick = tick
        self._seen: dict[UUID, int] = {}
        self._ended_s: dict[UUID, float] = {}

    def run(self) -> list[Outcome]:
        """Create the projects, decide what they ask, and return what became of them once all ended or time is up."""
        self._began = time.monotonic()
        made = [self._create(brief) for brief in self._briefs]
        open_projects = {project.pk: project for project in made}
        while open_projects and time.monotonic() - self._began < self._timeout_s:
            for project in list(open_projects.values()):
                self._look(project)
                if self._is_over(project):
                    self._ended_s[project.pk] = time.monotonic() - self._began
                    del open_projects[project.pk]
            self._tick([(project.name, progress(project)) for project in made])
            time.sleep(POLL_S)
        return [self._conclude(project) for project in made]

    def _create(self, brief: str) -> Project:
        project = projects.create_project(NewProject(brief), by=ADMIN, now=timezone.now())
        self._seen[project.pk] = 0
        return project

    def _look(self, project: Project) -> None:
        for news in self._news(project):
            self._tell(news)
        decide_all(project.pk, demo=not self._demo_only, now=timezone.now())
        project.refresh_from_db()

    def _news(self, project: Project) -> Iterator[News]:
        rows = AuditLog.objects.filter(project_id=project.pk, seq__gt=self._seen[project.pk]).order_by("seq")
        for row in rows:
            self._seen[project.pk] = row.seq
            yield News(time.monotonic() - self._began, project.name, row.action, row.actor_name, row.details)

    def _is_over(self, project: Project) -> bool:
        if self._demo_only and project.demos.filter(status=DemoStatus.READY).exists():
            return True
        return project.status in ENDED or project.tasks.filter(status=TaskStatus.FAILED).exists()

    def _conclude(self, project: Project) -> Outcome:
        project.refresh_from_db()
        outcome = Outcome(
            project_id=str(project.pk),
            name=project.name,
            status=project.status,
            wall_s=self._ended_s.get(project.pk, time.monotonic() - self._began),
            busy_s=busy_s(project),
            commit=project.delivered_commit,
            cost=project_cost(project.pk),
            simulated=is_simulated(project.pk),
            runs=_counted(project.runs.values_list("status", flat=True)),
            tasks=_counted(project.tasks.values_list("status", flat=True)),
            repository=str(repository(project.pk).path),
        )
        demo = Demo.objects.filter(project=project).order_by("-demo_number").first()
        outcome.preview_url = demo.preview_url if demo else ""
        outcome.problems = list(self._problems(project, outcome))
        return outcome

    def _problems(self, project: Project, outcome: Outcome) -> Iterator[str]:
        if project.pk not in self._ended_s:
            yield f"It did not end within {self._timeout_s:g} s."
        yield from _stuck(project)
        settled = Budget.objects.filter(scope=Budget.Scope.PROJECT, scope_id=project.pk).values_list(
            "settled", flat=True
        )
        if sum(settled, Decimal(0)) != outcome.cost:
            yield f"The ledger says {outcome.cost}, the budget {sum(settled, Decimal(0))}."
        if self._demo_only:
            if not project.demos.filter(status=DemoStatus.READY).exists():
                yield "There is no demo to look at."
        elif project.status != ProjectStatus.COMPLETE:
            yield f"It is {project.status}, not complete. {project.status_reason}".strip()
        else:
            yield from self._test_clone(project, outcome)

    def _test_clone(self, project: Project, outcome: Outcome) -> Iterator[str]:
        """Check the delivered commit out anew and run its own tests, as the client would."""
        seen = observe(project, project.delivered_commit, name=f"client-{project.pk.hex}", require_app=True)
        outcome.tests_run = seen.tests_run
        if not seen.passed:
            yield f"The delivered repository fails its own check: {seen.detail}"


def _stuck(project: Project) -> Iterator[str]:
    for task in project.tasks.filter(status=TaskStatus.FAILED):
        yield f"Task “{task.title}” failed: {task.detail[:300]}"
    twice = Run.objects.filter(project=project, status=RunStatus.SUCCEEDED, reason="completed").values_list(
        "task", flat=True
    )
    if len(twice) != len(set(twice)):
        yield "A task was completed twice."


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
