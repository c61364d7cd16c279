"""What the pages of projects read, as frozen values: no page asks the database by itself, none asks per row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.urls import reverse

from projects import graph
from projects.models import Approval, AuditLog, Plan, Project, SquadMember, Task
from projects.states import (
    ACTIVE_PROJECT,
    AWAITING_MERGE,
    OPEN_APPROVAL,
    RUNNING_TASK,
    PlanStatus,
    ProjectStatus,
    TaskKind,
    TaskStatus,
)

LANE_SIZE = 100
_PHASES = (
    (ProjectStatus.PLANNING, "Plan"),
    (ProjectStatus.DEMO, "Demo"),
    (ProjectStatus.BUILDING, "Build"),
    (ProjectStatus.COMPLETE, "Delivered"),
)
_LANES: tuple[tuple[str, str, tuple[TaskStatus, ...]], ...] = (
    ("To do", "pending", (TaskStatus.PENDING,)),
    ("Ready", "ready", (TaskStatus.READY,)),
    ("Running", "in_progress", (TaskStatus.ALLOCATED, TaskStatus.IN_PROGRESS)),
    ("Checking", "review", (TaskStatus.REVIEW,)),
    ("Needs you", "blocked", (TaskStatus.BLOCKED, TaskStatus.FAILED)),
    ("Done", "completed", (TaskStatus.COMPLETED, TaskStatus.CANCELLED)),
)
_TABS = (
    ("Overview", "project"),
    ("Board", "project_board"),
    ("Plan", "project_plan"),
    ("Workflows", "project_executions"),
    ("Runs", "project_runs"),
    ("Demos", "project_demos"),
    ("Files", "project_files"),
    ("Money", "project_money"),
    ("Audit", "project_audit"),
)


@dataclass(frozen=True)
class Phase:
    """One part of the phase bar; `state` is done, now or next."""

    label: str
    state: str


@dataclass(frozen=True)
class Tab:
    """One tab of the project's page."""

    label: str
    url: str
    is_current: bool
    count: int | None = None


@dataclass(frozen=True)
class Lane:
    """A column of the board. `more` cards are not shown."""

    label: str
    state: str
    tasks: list[Task]
    count: int

    @property
    def more(self) -> int:
        """How many cards are not shown."""
        return self.count - len(self.tasks)


@dataclass(frozen=True)
class ProjectRow:
    """A project in a list."""

    project: Project
    phases: list[Phase]
    done: int
    total: int
    running: int
    needs_you: int


@dataclass(frozen=True)
class Header:
    """What every tab of a project shows above itself."""

    project: Project
    phases: list[Phase]
    tabs: list[Tab]
    needs_you: list[Approval]


def phases(project: Project) -> list[Phase]:
    """Return the phase bar. A project that is over keeps what it reached."""
    status = project.paused_from or project.status
    if status in {ProjectStatus.ARCHIVED, ProjectStatus.CANCELLED}:
        reached = 4 if project.delivered_commit else (2 if project.approved_demo_id else 0)
        return [Phase(label, "done" if n < reached else "next") for n, (_, label) in enumerate(_PHASES)]
    at = [state for state, _ in _PHASES].index(ProjectStatus(status))
    is_over = status == ProjectStatus.COMPLETE
    return [
        Phase(label, "done" if n < at or is_over else ("now" if n == at else "next"))
        for n, (_, label) in enumerate(_PHASES)
    ]


def header(project: Project, current: str) -> Header:
    """Return the head of a project's page. `current` is the name of the tab's URL."""
    waiting = list(project.approvals.filter(status__in=OPEN_APPROVAL).order_by("created_at", "id")[:5])
    tabs = [Tab(label, reverse(name, args=[project.pk]), name == current) for label, name in _TABS]
    return Header(project, phases(project), tabs, waiting)


def rows(projects: Iterable[Project]) -> list[ProjectRow]:
    """Return projects as a list shows them. Two statements for all of them."""
    projects = list(projects)
    ids = [project.pk for project in projects]
    counts = {
        row["project_id"]: row
        for row in Task.objects.filter(project_id__in=ids)
        .values("project_id")
        .annotate(
            total=Count("pk", filter=Q(kind=TaskKind.BUILD) & ~Q(status=TaskStatus.CANCELLED)),
            done=Count("pk", filter=Q(kind=TaskKind.BUILD, status=TaskStatus.COMPLETED)),
            running=Count("pk", filter=Q(status__in=RUNNING_TASK)),
        )
    }
    waiting = {
        row["project_id"]: row["n"]
        for row in Approval.objects.filter(project_id__in=ids, status__in=OPEN_APPROVAL)
        .values("project_id")
        .annotate(n=Count("pk"))
    }
    empty = {"total": 0, "done": 0, "running": 0}
    return [
        ProjectRow(
            project,
            phases(project),
            done=counts.get(project.pk, empty)["done"],
            total=counts.get(project.pk, empty)["total"],
            running=counts.get(project.pk, empty)["running"],
            needs_you=waiting.get(project.pk, 0),
        )
        for project in projects
    ]


def running_tasks(limit: int = 12) -> QuerySet[Task]:
    """Return what is being worked on now, longest first."""
    return (
        Task.objects.filter(status__in=RUNNING_TASK, project__status__in=ACTIVE_PROJECT)
        .select_related("project")
        .order_by("started_at", "id")[:limit]
    )


def recently_finished(limit: int = 5) -> QuerySet[Project]:
    """Return the projects delivered last."""
    return Project.objects.filter(completed_at__isnull=False).order_by("-completed_at")[:limit]


def board(project: Project) -> list[Lane]:
    """Return the board: two statements, and at most LANE_SIZE cards in a lane."""
    counts = dict.fromkeys(TaskStatus.values, 0)
    for row in project.tasks.values("status", "reason").annotate(n=Count("pk")):
        counts[_placed(row["status"], row["reason"])] += row["n"]
    shown: dict[str, list[Task]] = {status: [] for status in TaskStatus.values}
    for task in _board_tasks(project):
        shown[_placed(task.status, task.reason)].append(task)
    return [
        Lane(
            label,
            state,
            [task for status in statuses for task in shown[status]][:LANE_SIZE],
            sum(counts[status] for status in statuses),
        )
        for label, state, statuses in _LANES
    ]


def _placed(status: str, reason: str) -> str:
    """Return the status as which a task is on the board: one that waits for its merge asks nobody."""
    return TaskStatus.REVIEW if status == TaskStatus.BLOCKED and reason == AWAITING_MERGE else status


def _board_tasks(project: Project) -> Sequence[Task]:
    """Return the cards. What is over is shown newest first; a plan has at most 1,000 tasks."""
    is_over = [TaskStatus.COMPLETED, TaskStatus.CANCELLED]
    open_tasks = project.tasks.exclude(status__in=is_over).order_by("-priority", "id")[:1_000]
    ended = project.tasks.filter(status__in=is_over).order_by("-completed_at", "-id")[:LANE_SIZE]
    return [*open_tasks, *ended]


def roles_of(project: Project) -> list[str]:
    """Return the roles of a project's squad."""
    members = SquadMember.objects.filter(squad__project=project)
    return list(members.order_by("role").values_list("role", flat=True))


def plan_nodes(plan: Plan) -> list[graph.Node]:
    """Return a plan's tasks in its order, with their states once they have any."""
    return graph.nodes_of(plan.content, {task.key: task for task in plan.tasks.all()})


def plan_graph(plan: Plan) -> graph.Graph:
    """Return the drawing of a plan with the states of its tasks."""
    return graph.draw(plan_nodes(plan))


def shown_plan(project: Project, version: str) -> tuple[Plan | None, list[Plan]]:
    """Return the plan that `version` asks for, or the one that counts, and all of them, newest first."""
    plans = list(project.plans.order_by("-version"))
    if version.isdigit():
        return next((plan for plan in plans if plan.version == int(version)), None), plans
    for status in (PlanStatus.PROPOSED, PlanStatus.ACTIVE):
        if found := next((plan for plan in plans if plan.status == status), None):
            return found, plans
    return (plans[0] if plans else None), plans


def with_projects(rows: Sequence[AuditLog]) -> list[tuple[AuditLog, Project | None]]:
    """Return rows of the trail with the projects they belong to, as far as those still exist. One statement."""
    projects = Project.objects.in_bulk({row.project_id for row in rows if row.project_id})
    return [(row, projects.get(row.project_id) if row.project_id else None) for row in rows]


def audit_rows(project_id: UUID | None, *, action: str = "", actor: str = "") -> QuerySet[AuditLog]:
    """Return the trail of a project or of all; `action` is a prefix ("task" or "task.completed")."""
    found = AuditLog.objects.all() if project_id is None else AuditLog.objects.filter(project_id=project_id)
    if action:
        found = found.filter(action__startswith=action)
    return found.filter(actor_name=actor) if actor else found
