"""Looking after executions that wait for what may never come."""

from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef

from projects import audit
from projects.actions.chat import notify
from projects.actions.steps import ENGINE
from projects.models import ExecutionLog, ExecutionNode, Notification
from projects.states import NodeStatus
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
