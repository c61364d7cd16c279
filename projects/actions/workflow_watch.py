"""Looking after executions that wait for what may never come."""

from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef

from projects import audit
from projects.actions import projects
from projects.actions.chat import notify
from projects.actions.steps import ENGINE
from projects.errors import DomainError
from projects.models import Execution, ExecutionLog, ExecutionNode, Notification, Project
from projects.states import ACTIVE_PROJECT, MAIN_JOB, OPEN_EXECUTION, NodeStatus
from projects.workflows.functions import UNKNOWN

PATIENCE = timedelta(minutes=5)
"""Longer than all workers take to be started anew, as during an update."""
REPORTED = "reported"
"""The event in an execution's log by which a node is reported once."""
MOST_AT_ONCE = 200


def report_unknown(*, now: datetime) -> int:
    """Tell people of nodes whose function no worker has known for PATIENCE, each once; return of how many.

    They go on waiting: a worker that knows the function takes them at once.
    """
    told = ExecutionLog.objects.filter(
        execution_id=OuterRef("execution_id"), position=OuterRef("position"), event=REPORTED
    )
    with audit.journal(by=ENGINE, now=now) as journal:
        waiting = ExecutionNode.objects.filter(
            ~Exists(told),
            status=NodeStatus.READY,
            kind="function",
            error__startswith=UNKNOWN,
            started_at__lte=now - PATIENCE,
        )
        locked = waiting.select_for_update(skip_locked=True, no_key=True, of=("self",)).order_by("pk")
        found = list(locked.select_related("execution__project", "execution__workflow")[:MOST_AT_ONCE])
        ExecutionLog.objects.bulk_create(
            ExecutionLog(execution_id=one.execution_id, position=one.position, event=REPORTED, detail=one.error, at=now)
            for one in found
        )
        for execution, node in {node.execution: node for node in found}.items():
            details = {"workflow": execution.workflow.key, "node": node.key, "why": node.error}
            journal.add("execution.waiting", project_id=execution.project_id, obj=execution, details=details)
            notify(
                execution.project,
                level=Notification.Level.WARNING,
                title=f"The workflow {execution.workflow.key} waits at “{node.key}”"[:255],
                message=f"{node.error} Start workers that have it, or cancel the execution {execution.pk}.",
                by=ENGINE,
                now=now,
            )
    return len(found)


def pause_stuck(*, now: datetime) -> int:
    """Pause the projects whose main job ended before they did, and tell people why; return how many.

    Only what people added to the main job can end it so. Once its node was done anew, the project can be resumed.
    """
    ended = Execution.objects.filter(workflow__key=MAIN_JOB, project__status__in=ACTIVE_PROJECT)
    count = 0
    for execution in ended.exclude(status__in=OPEN_EXECUTION).select_related("project")[:MOST_AT_ONCE]:
        assert execution.project is not None
        count += _paused(execution, execution.project, now)
    return count


def _paused(execution: Execution, project: Project, now: datetime) -> bool:
    led_nowhere = "what one of its steps returned leads no further, and not to the delivery."
    why = f"Its main job ended: {execution.detail or led_nowhere}"[:500]
    try:
        with audit.journal(by=ENGINE, now=now):
            projects.pause_project(project, reason=why, by=ENGINE, now=now)
            notify(
                project,
                level=Notification.Level.ERROR,
                title=f"{project.name} is paused: its main job ended"[:255],
                message=f"{why}\n\nRetry that step on its page, then resume the project.",
                links=[{"label": "Open main job", "url": f"/executions/{execution.pk}/"}],
                by=ENGINE,
                now=now,
            )
    except DomainError:  # somebody was quicker
        return False
    return True
