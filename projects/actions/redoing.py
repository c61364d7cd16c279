"""What a person does to one node of an execution at any moment: has it done anew with all that follows, or leaves it
out."""

from datetime import datetime
from typing import Any

from projects import audit
from projects.actions import nodes, steering, steps, tasks
from projects.actions.workflows import InvalidExecution, be_recorded, check_not_given_up, check_project
from projects.actors import Actor
from projects.errors import IllegalTransition, StaleState
from projects.jsontext import storable_json
from projects.models import Execution, ExecutionNode, Project, Task
from projects.states import MAIN_JOB, NOT_BEGUN_NODE, ExecutionStatus, NodeStatus
from projects.workflows.anew import do_anew, stands_of
from projects.workflows.plan import Plan
from projects.workflows.rewinding import behind, places


def retry_from(execution: Execution, key: str, *, by: Actor, now: datetime) -> None:
    """Do a node anew, and all that follows it, whether the execution is at work, paused or over.

    What was cancelled when it ended is taken up again too. What is at work behind the node is taken back: its results
    come too late, its tasks are cancelled, and their runs end. Raises InvalidExecution, IllegalTransition.
    """
    with audit.journal(by=by, now=now) as journal:
        execution = _locked(execution)
        be_recorded(journal, execution)
        node = _node(execution, key)
        if node.status in NOT_BEGUN_NODE:
            raise IllegalTransition(f"“{key}” has not begun yet: there is nothing to do anew.")
        plan = nodes.plan_of(execution.workflow_id)
        _check_stages(execution, plan, node)
        if plan.roles and execution.workflow.key != MAIN_JOB:
            assert execution.project is not None
            check_project(execution.project)
        else:
            check_not_given_up(execution.project)
        stands = stands_of(nodes.execute, execution.pk)
        cancelled = [position for position, stand in stands.items() if stand.status == NodeStatus.CANCELLED]
        anew = behind(plan, [node.position, *cancelled])
        do_anew(
            nodes.execute,
            execution.pk,
            plan,
            places(plan, stands, anew, node.position),
            node.position,
            is_paused=execution.status == ExecutionStatus.PAUSED,
            detail=f"By {by.name}.",
            is_fresh=True,
        )
        execution.refresh_from_db()
        Execution.objects.filter(pk=execution.pk).update(audited_status=execution.status)
        nodes.record(journal, execution, {"node": key, "nodes": len(anew)}, verb="retried")
        steps.begin_ready(executions=[execution.pk], now=now)
    tasks.cancel_left(now=now)


def skip_node(
    execution: Execution, key: str, *, result: dict[str, Any] | None = None, by: Actor, now: datetime
) -> None:
    """Leave a node out, as if it had returned `result`; a task that it is, is cancelled.

    Raises CannotLeaveOut when it has ended, or conditions cannot be decided on the result; StaleState when its task
    was made in this very moment.
    """
    result = storable_json(result) if result is not None else None
    with audit.journal(by=by, now=now) as journal:
        if execution.project_id is not None:
            Project.objects.select_for_update(no_key=True).get(pk=execution.project_id)
        node = _node(execution, key)
        if node.kind == "stage":
            raise InvalidExecution(f"“{key}” cannot be left out: the project goes on from what it brings.")
        if node.task_id is not None and node.status == NodeStatus.RUNNING:
            steering.skip_task(Task.objects.get(pk=node.task_id), result=result, by=by, now=now)
            return
        locked = _locked(execution)
        if (node := _node(locked, key)).task_id is not None and node.status == NodeStatus.RUNNING:
            raise StaleState(f"“{key}” began a moment ago. Look again and decide anew.")
        be_recorded(journal, locked)
        to_begin = nodes.leave_out(node, result, journal=journal)
        steps.begin_ready(executions=to_begin, now=now)


def _check_stages(execution: Execution, plan: Plan, node: ExecutionNode) -> None:
    """Raise InvalidExecution where doing a node anew would do a stage anew: decisions of people do that."""
    anew = behind(plan, [node.position]) & set(plan.stages.values())
    begun = execution.nodes.filter(position__in=anew, started_at__isnull=False).exclude(
        status__in=[*NOT_BEGUN_NODE, NodeStatus.CANCELLED]
    )
    if key := begun.order_by("position").values_list("key", flat=True).first():
        raise InvalidExecution(
            f"“{key}” has begun, and the project went on with it. Ask for changes where its plan or demo is decided."
        )


def _locked(execution: Execution) -> Execution:
    if execution.project_id is not None:
        Project.objects.select_for_update(no_key=True).get(pk=execution.project_id)
    found = Execution.objects.select_for_update(no_key=True, of=("self",)).select_related("workflow", "project")
    return found.get(pk=execution.pk)


def _node(execution: Execution, key: str) -> ExecutionNode:
    node = execution.nodes.filter(key=key[:64]).first()
    if node is None:
        raise InvalidExecution(f"It has no node “{key[:64]}”.")
    return node
