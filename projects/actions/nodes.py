"""What the end of a task does to the execution whose node it is, and how executions get into the audit log.

Locks are taken in one order by everybody: project, tasks by key, execution, nodes. Who changes an execution first and
then its tasks does the second in a transaction of its own (`tasks.cancel_left`).
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from projects import audit
from projects.errors import DomainError
from projects.jsontext import storable_text
from projects.models import Execution, ExecutionNode, Project, Task, Workflow
from projects.states import OPEN_EXECUTION, OPEN_NODE, ExecutionStatus, NodeStatus
from projects.workflows import statements
from projects.workflows.conditions import UndecidedCondition
from projects.workflows.definition import Definition
from projects.workflows.finishing import Written, resolve, skip_columns, write
from projects.workflows.functions import Permanent
from projects.workflows.plan import Plan, compile_plan
from projects.workflows.work import Claimed, Outcome, failed, succeeded


class CannotLeaveOut(DomainError):
    """This node cannot be left out."""


@lru_cache(maxsize=200)
def plan_of(workflow_id: UUID) -> Plan:
    """Return a version's plan; it never changes."""
    return compile_plan(Definition.from_json(Workflow.objects.values_list("definition", flat=True).get(pk=workflow_id)))


def execute(statement: str, given: dict[str, Any]) -> list[Any]:
    """Run a statement of the engine in Django's transaction, past its cursors, which write each parameter into the
    statement's text. It is nobody's claim: `runner` is none."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, {"runner": None} | given)
        return cursor.fetchall() if cursor.description else []


def value_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return what conditions see of a task's result: what the agent returned, and what the platform knows."""
    known = {name: value for name, value in result.items() if name != "returned"}
    returned: dict[str, Any] = result.get("returned", {})
    return returned | known


def check_result(task: Task, result: dict[str, Any]) -> None:
    """Raise UndecidedCondition unless the conditions on what follows can be decided on a result like this."""
    if claimed := _claimed(task):
        value = value_of(result)
        claimed.plan.met(claimed.position, status="completed", result=value)
        claimed.plan.back(claimed.position, status="completed", result=value)


def complete_node(task: Task, *, journal: audit.Journal) -> set[UUID]:
    """End the node that a completed task is, if one waits for it. Return the executions in which nodes of a role became
    ready by that."""
    return _end(task, lambda claimed: outcome_of(claimed, value_of(task.result)), journal)


def fail_node(task: Task, said: str, *, journal: audit.Journal) -> set[UUID]:
    """End the node that a failed task is, as `complete_node`: without an edge for that, its execution has failed."""
    return _end(task, lambda claimed: failed(claimed, said), journal)


def stop_executions(project: Project, *, reason: str, journal: audit.Journal) -> None:
    """Cancel what is carried out in a project that was given up. Its tasks are locked and cancelled before."""
    opened = project.executions.select_for_update(no_key=True).filter(status__in=OPEN_EXECUTION).order_by("pk")
    for pk in list(opened.values_list("pk", flat=True)):
        execute(statements.STOP, {"execution": pk, "status": ExecutionStatus.CANCELLED.value, "detail": reason})
        record_news(journal, Execution.objects.filter(pk=pk).select_related("workflow"))


def give_up(execution: Execution, why: str, *, journal: audit.Journal) -> None:
    """Fail an execution, locked, that cannot go on."""
    given = {"execution": execution.pk, "status": ExecutionStatus.FAILED.value, "detail": storable_text(why[:2_000])}
    execute(statements.STOP, given)
    record_news(journal, Execution.objects.filter(pk=execution.pk).select_related("workflow"))


def record(
    journal: audit.Journal, execution: Execution, details: dict[str, Any] | None = None, *, verb: str = ""
) -> None:
    """Record what happened to an execution. Needs its workflow loaded."""
    workflow = execution.workflow
    journal.add(
        f"execution.{verb or execution.status}",
        project_id=execution.project_id,
        obj=execution,
        details={"workflow": workflow.key, "version": workflow.version, "detail": execution.detail} | (details or {}),
    )


def record_news(journal: audit.Journal, executions: Iterable[Execution]) -> None:
    """Record of executions, locked, what the log does not have: that they were started, and how they ended."""
    found = list(executions)
    for execution in found:
        if not execution.audited_status:
            record(journal, execution, {"started_by": execution.started_by}, verb="started")
        if execution.status not in {ExecutionStatus.RUNNING, execution.audited_status}:
            record(journal, execution)
    for status in {one.status for one in found}:
        Execution.objects.filter(pk__in=[one.pk for one in found if one.status == status]).update(audited_status=status)


def _claimed(task: Task) -> Claimed | None:
    row = (
        ExecutionNode.objects.filter(task=task, status=NodeStatus.RUNNING)
        .values_list("execution_id", "position", "attempts", "execution__workflow_id", "attempts_before")
        .first()
    )
    return Claimed(*row[:4], plan_of(row[3]), row[2] - row[4]) if row else None


def _end(task: Task, decide: Any, journal: audit.Journal) -> set[UUID]:
    claimed = _claimed(task)
    if claimed is None:  # its execution ended, or somebody had the node done anew
        return set()
    # Before the statement, which would see the nodes from before it waited; and then look again.
    Execution.objects.select_for_update(no_key=True).get(pk=claimed.execution_id)
    if (claimed := _claimed(task)) is None:
        return set()
    written = write(execute, [decide(claimed)], keep=0)
    ended = Execution.objects.filter(pk__in=written.ended).select_related("workflow").order_by("pk")
    record_news(journal, ended)
    return written.to_begin


def outcome_of(claimed: Claimed, value: dict[str, Any]) -> Outcome:
    """Return what a node's result leads to: a failure where it cannot be stored, or decides nothing."""
    try:
        return succeeded(claimed, value)
    except Permanent as error:
        return failed(claimed, str(error))


def leave_out(node: ExecutionNode, result: dict[str, Any] | None, *, journal: audit.Journal) -> set[UUID]:
    """End a node as if it had returned `result`, without anybody having done it. Return the executions in which nodes
    of a role became ready.

    The task that it is, if any, is cancelled before. Raises CannotLeaveOut when it has ended or what follows cannot be
    decided on the result.
    """
    execution = Execution.objects.select_for_update(no_key=True).get(pk=node.execution_id)
    node = ExecutionNode.objects.select_for_update().get(pk=node.pk)
    if execution.status not in OPEN_EXECUTION or node.status not in OPEN_NODE:
        raise CannotLeaveOut(f"“{node.key}” is {NodeStatus(node.status).label.lower()} already.")
    plan = plan_of(execution.workflow_id)
    try:
        met = plan.met(node.position, status="completed", result=result or {})
    except UndecidedCondition as error:
        raise CannotLeaveOut(
            f"What follows “{node.key}” depends on its result, so one must be given: {error}"
        ) from error
    given = {"node": node.pk, "execution": execution.pk, "result": json.dumps(result or {})}
    execute(statements.LEAVE_OUT, given)
    tries = node.attempts - node.attempts_before
    claimed = Claimed(execution.pk, node.position, node.attempts, execution.workflow_id, plan, tries)
    written = Written()
    rows = execute(statements.SKIP, skip_columns([(claimed, node.position)], [met], keep=0))
    resolve(execute, rows, {execution.pk: claimed}, written, keep=0)
    written.ended |= {row[0] for row in execute(statements.END_IF_OVER, {"execution": execution.pk})}
    record_news(journal, Execution.objects.filter(pk=execution.pk).select_related("workflow"))
    record(
        journal, Execution.objects.select_related("workflow").get(pk=execution.pk), {"node": node.key}, verb="skipped"
    )
    return written.to_begin
