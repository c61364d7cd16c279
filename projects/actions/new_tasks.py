"""Making tasks: the platform's own, and a plan's whole graph."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from projects import audit
from projects.actors import Actor
from projects.errors import ProjectNotActive
from projects.events import TASK_STATUS, Event
from projects.ids import new_id
from projects.jsontext import storable_json, storable_text
from projects.models import Project, Task, TaskDependency
from projects.roles import Role
from projects.states import GIVEN_UP_PROJECT, TaskKind, TaskStatus


def create_task(
    project: Project,
    kind: TaskKind,
    *,
    key: str,
    role: Role,
    title: str,
    description: str = "",
    context: dict[str, Any] | None = None,
    priority: int = 0,
    parent: Task | None = None,
    by: Actor,
    now: datetime,
) -> Task:
    """Make a task of the platform's own (not of a plan), ready at once; below its `parent`, narrowed as that is.

    Raises ProjectNotActive in a project that was given up or put away meanwhile.
    """
    with audit.journal(by=by, now=now) as journal:
        # Not under a lock: callers hold tasks, and who cancels takes the project first. `cancel_open_tasks` looks
        # again for what it missed.
        if Project.objects.filter(pk=project.pk, status__in=GIVEN_UP_PROJECT).exists():
            raise ProjectNotActive(f"{project.name} takes no more work.")
        task = Task.objects.create(
            id=new_id(),
            project=project,
            kind=kind,
            key=key,
            role=role,
            title=storable_text(title, max_chars=255),
            description=storable_text(description, max_chars=20_000),
            context=storable_json(context or {}),
            priority=priority,
            parent=parent,
            specialisation=parent.specialisation if parent else "",
            status=TaskStatus.READY,
            next_attempt_at=now,
            ready_at=now,
            created_at=now,
        )
        record_task(journal, "task.ready", task)
    return task


def create_build_tasks(
    project: Project, tasks: Sequence[Task], edges: Sequence[TaskDependency], *, by: Actor, now: datetime
) -> None:
    """Write a plan's whole graph at once: two statements and one batch of audit rows, whatever its size."""
    with audit.journal(by=by, now=now) as journal:
        Task.objects.bulk_create(tasks)
        TaskDependency.objects.bulk_create(edges)
        for task in tasks:
            record_task(journal, f"task.{task.status}", task)


def new_build_tasks(
    project: Project, nodes: Iterable[tuple[Task, Sequence[str]]]
) -> tuple[list[Task], list[TaskDependency]]:
    """Return unsaved tasks and their edges; `nodes` gives each task with the keys that it depends on."""
    pairs = list(nodes)
    by_key = {task.key: task for task, _ in pairs}
    edges = [TaskDependency(id=new_id(), task=task, depends_on=by_key[key]) for task, keys in pairs for key in keys]
    return [task for task, _ in pairs], edges


def record_task(journal: audit.Journal, action: str, task: Task, details: dict[str, Any] | None = None) -> None:
    """Record what happened to a task; people who watch see it."""
    payload = {
        "projectId": task.project_id,
        "taskId": task.pk,
        "status": task.status,
        "progress": task.progress,
    }
    journal.add(
        action,
        project_id=task.project_id,
        agent_id=task.agent_id,
        obj=task,
        details={"key": task.key} | (details or {}),
        event=Event(TASK_STATUS, payload),
    )
