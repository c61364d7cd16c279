"""Reads that several callers need."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from projects.models import Approval, Execution, Notification, Project, Task
from projects.plans import PlannedTask
from projects.roles import Role
from projects.states import MAIN_JOB, OPEN_APPROVAL, OPEN_EXECUTION, PlanStatus, ProjectStatus, TaskKind, TaskStatus

SKIPPED = "skipped"
"""Why a task was cancelled that a person left out: what waits for it goes on without it."""
# Where the phases lie on the project's bar, in percent: planning, demo, building.
_DEMO_FROM, _BUILD_FROM = 15, 40


def progress(project: Project) -> int:
    """Return how far a project is, in percent: a guide for the eye, from phases and completed tasks."""
    status = project.paused_from or project.status
    match status:
        case ProjectStatus.COMPLETE:
            return 100
        case ProjectStatus.ARCHIVED:
            return 100 if project.delivered_commit else 0
        case ProjectStatus.BUILDING:
            counts = project.tasks.filter(kind=TaskKind.BUILD).aggregate(
                all=Count("pk", filter=~Q(status=TaskStatus.CANCELLED)),
                done=Count("pk", filter=Q(status=TaskStatus.COMPLETED)),
            )
            return int(_BUILD_FROM + (99 - _BUILD_FROM) * counts["done"] // max(counts["all"], 1))
        case ProjectStatus.DEMO:
            return _DEMO_FROM
        case _:
            return 0


def open_approvals() -> QuerySet[Approval]:
    """Return what waits for a person, oldest first."""
    return Approval.objects.filter(status__in=OPEN_APPROVAL).select_related("project").order_by("created_at", "id")


def unread_notifications() -> QuerySet[Notification]:
    """Return what nobody has read yet, newest first."""
    return Notification.objects.filter(read_at__isnull=True).order_by("-created_at", "-id")


@dataclass(frozen=True)
class Candidate:
    """A task that may be dispatched, and how many more its project may have in work. They come in order of dispatch."""

    task_id: UUID
    project_id: UUID
    role: str
    room: int
    specialisation: str = ""
    # Whom it was given to before, while it waited for an answer.
    agent: str = ""
    is_sensitive: bool = False


# Fair between projects: each project's first candidate comes before any project's second, and a project that already
# runs much comes later. Within a project the task goes first that waits longest; each point of priority counts as a
# minute of waiting, so that nothing waits for ever behind what is more urgent. A project gets at most what its squad
# allows at once.
_CANDIDATES = """
WITH running AS (
    SELECT project_id, count(*) AS n FROM projects_task
    WHERE status IN ('allocated', 'in_progress', 'review') GROUP BY project_id
), ranked AS (
    SELECT t.id, t.project_id, t.role, t.next_attempt_at, t.specialisation,
           coalesce(t.context->>'agent', '') AS agent,
           coalesce(p.config->>'privacy', '') = 'sensitive' AS is_sensitive,
           coalesce(r.n, 0)
             + row_number() OVER (
               PARTITION BY t.project_id
               ORDER BY t.next_attempt_at - t.priority * interval '1 minute', t.id
             ) AS place,
           s.max_concurrent_runs AS most, s.max_concurrent_runs - coalesce(r.n, 0) AS room
    FROM projects_task t
    JOIN projects_project p ON p.id = t.project_id AND p.status IN ('planning', 'demo', 'building')
    JOIN projects_squad s ON s.project_id = t.project_id
    LEFT JOIN running r ON r.project_id = t.project_id
    WHERE t.status = 'ready' AND t.next_attempt_at <= %s AND t.role <> ALL(%s::text[])
      AND (t.kind NOT IN ('step', 'conflict') OR NOT EXISTS (
        SELECT FROM projects_executionnode n JOIN projects_execution e ON e.id = n.execution_id
        WHERE e.status = 'paused' AND n.task_id IN (
          t.id, t.parent_id, (SELECT a.parent_id FROM projects_task a WHERE a.id = t.parent_id),
          (SELECT b.parent_id FROM projects_task a JOIN projects_task b ON b.id = a.parent_id WHERE a.id = t.parent_id),
          (SELECT c.parent_id FROM projects_task a JOIN projects_task b ON b.id = a.parent_id
           JOIN projects_task c ON c.id = b.parent_id WHERE a.id = t.parent_id)
        )
      ))
)
SELECT id, project_id, role, room, specialisation, agent, is_sensitive FROM ranked
WHERE place <= most + %s
ORDER BY place, next_attempt_at, id LIMIT %s
"""


def dispatchable(*, now: datetime, limit: int, slack: int = 20, without: Collection[str] = ()) -> list[Candidate]:
    """Return ready tasks of active projects in the order in which they should be dispatched, but those of some roles.

    `slack` more than a project's limit are given, because the first of them may lack a free agent of their role; the
    caller counts. One statement, whatever the number of projects.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, [now, list(without), slack, limit])
        return [Candidate(*row) for row in cursor.fetchall()]


def is_built(project: Project) -> bool:
    """Return whether a project that is being built has nothing left to do but what its main job does itself."""
    return project.status == ProjectStatus.BUILDING and built_projects().filter(pk=project.pk).exists()


def built_projects() -> QuerySet[Project]:
    """Return the projects of which `is_built` is true, in one statement however many are being built."""
    builds = Task.objects.filter(project=OuterRef("pk"), kind=TaskKind.BUILD)
    others = Execution.objects.filter(project=OuterRef("pk"), status__in=OPEN_EXECUTION).exclude(workflow__key=MAIN_JOB)
    is_built = (Exists(builds), ~Exists(builds.exclude(_IS_DONE)), ~Exists(others))
    return Project.objects.filter(*is_built, status=ProjectStatus.BUILDING)


# One that a person left out is not to be done any more.
_IS_DONE = Q(status=TaskStatus.COMPLETED) | Q(status=TaskStatus.CANCELLED, reason=SKIPPED)


def unfinished_builds(project: Project) -> QuerySet[Task]:
    """Return the tasks of its plan that are to be done yet."""
    return project.tasks.filter(kind=TaskKind.BUILD).exclude(_IS_DONE)


def stage_after(task: Task) -> list[Task]:
    """Return what will be made when this task of the main line is completed and approved: tasks that are not saved.

    Of them only project, role and specialisation are known.
    """
    if task.kind == TaskKind.REQUIREMENTS:
        return [Task(project=task.project, role=Role.ARCHITECT)]
    if task.kind == TaskKind.PLAN:
        return [Task(project=task.project, role=Role.DEVELOPER)]
    plan = task.project.plans.filter(status=PlanStatus.ACTIVE).first() if task.kind == TaskKind.DEMO else None
    nodes = [PlannedTask.from_json(data) for data in plan.content] if plan else []
    first = [node for node in nodes if not node.depends_on]
    return [Task(project=task.project, role=node.role, specialisation=node.specialisation) for node in first]
