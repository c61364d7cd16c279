"""Workflows and their executions: saved in versions, started, paused, resumed, cancelled."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, Q

from projects import audit
from projects.actions import steps, tasks
from projects.actions.nodes import execute, plan_of, record, record_news
from projects.actors import Actor
from projects.errors import DomainError, IllegalTransition, StaleState
from projects.ids import new_id
from projects.jsontext import storable_json, storable_text
from projects.models import Execution, ExecutionLog, Project, SquadMember, Workflow
from projects.plans import MAX_TASKS
from projects.states import (
    EXECUTION_TRANSITIONS,
    GIVEN_UP_PROJECT,
    MAIN_JOB,
    OVER_PROJECT,
    ExecutionStatus,
    NodeStatus,
    ProjectStatus,
)
from projects.transitions import check_step, step
from projects.workflows import statements
from projects.workflows.definition import Definition, InvalidWorkflow, is_key
from projects.workflows.documents import Document
from projects.workflows.main_job import main_job_problems
from projects.workflows.plan import Plan
from projects.workflows.shipped import shipped

MAX_INPUT_CHARS = 256 * 1024
MAX_KEY_CHARS = 200
KEPT = timedelta(days=90)
_FORGOTTEN_AT_ONCE = 100
_VERSIONS_LOCK = 0x656B_6C78


class InvalidExecution(DomainError):
    """The workflow cannot be started so."""


@dataclass(frozen=True)
class Start:
    """One execution to start: by `key`, if given, it is started once and never again."""

    key: str | None = None
    input: dict[str, Any] = field(default_factory=dict)


def save_workflow(document: Document, *, is_shipped: bool = False, by: Actor, now: datetime) -> Workflow:
    """Store a workflow as the next version of its key, or return the newest where nothing changed.

    Raises InvalidWorkflow unless it has a proper key and a name, and stages just where it is the main job.
    """
    if problems := main_job_problems(document.key, document.definition):
        raise InvalidWorkflow(problems)
    name, description = storable_text(document.name, max_chars=255).strip(), storable_text(document.description)
    if not name or len(description) > 20_000 or not is_key(document.key):
        raise InvalidWorkflow(["It needs a key of a-z, 0-9, - and _, a name, and at most 20,000 characters about it."])
    with audit.journal(by=by, now=now) as journal:
        _lock_versions()
        newest = Workflow.objects.filter(key=document.key).order_by("-version").first()
        definition = storable_json(document.definition.to_json())
        if newest and (newest.name, newest.description, newest.definition) == (name, description, definition):
            return newest
        made = Workflow.objects.create(
            id=new_id(),
            key=document.key,
            version=newest.version + 1 if newest else 1,
            name=name,
            description=description,
            definition=definition,
            is_shipped=is_shipped,
            created_by=by.name,
            created_at=now,
        )
        journal.add("workflow.saved", obj=made, details={"key": made.key, "version": made.version})
    return made


def load_shipped(*, by: Actor, now: datetime) -> list[Workflow]:
    """Store what comes with Eklavya. Idempotent; where a person wrote a newer version, theirs stays the newest."""
    loaded = []
    with audit.journal(by=by, now=now):
        for document in shipped():
            newest = Workflow.objects.filter(key=document.key).order_by("-version").first()
            if newest and not newest.is_shipped:
                loaded.append(newest)
            else:
                loaded.append(save_workflow(document, is_shipped=True, by=by, now=now))
    return loaded


def document_of(workflow: Workflow) -> Document:
    """Return a stored version as it is handed around."""
    definition = Definition.from_json(workflow.definition)
    return Document(workflow.key, workflow.name, workflow.description, definition)


def start_execution(
    workflow: Workflow, start: Start, *, project: Project | None = None, by: Actor, now: datetime
) -> Execution:
    """Start a workflow once. Raises InvalidExecution, with a row in the audit log."""
    try:
        (found,) = start_executions(workflow, [start], project=project, by=by, now=now)
    except InvalidExecution as problem:
        with audit.journal(by=by, now=now) as journal:
            journal.add(
                "execution.refused",
                project_id=project.pk if project else None,
                obj=workflow,
                details={"workflow": workflow.key, "version": workflow.version, "reason": str(problem)[:1_000]},
            )
        raise
    return Execution.objects.get(pk=found)


def start_executions(
    workflow: Workflow, starts: Sequence[Start], *, project: Project | None = None, by: Actor, now: datetime
) -> list[UUID]:
    """Start a workflow many times, in one statement, and return the executions' ids in the same order.

    A key that was used before gives the execution of then. Durable as soon as the caller's transaction is; runners hear
    of it in the same moment. The audit log has it a moment later (`audit_executions`): a row of a chain is not waited
    for. Raises InvalidExecution for too large an input, another workflow's or project's key, a project that was given
    up, and for nodes of a role anywhere but in one that is being built; their tasks are made in the same transaction.
    """
    if workflow.key == MAIN_JOB:
        raise InvalidExecution(f"{workflow} is what the platform does with every brief: start a project instead.")
    plan = plan_of(workflow.pk)
    if not plan.roles and project is None:
        return _started(workflow, plan, starts, project=project, by=by, now=now)
    with audit.journal(by=by, now=now):
        _check_roles(workflow, plan, project)
        found = _started(workflow, plan, starts, project=project, by=by, now=now)
        steps.begin_ready(executions=found, now=now)
    return found


def open_execution(workflow: Workflow, key: str, project: Project, *, by: Actor, now: datetime) -> UUID:
    """Start a workflow that is no person's to start, once by its key, and begin none of its nodes."""
    (found,) = _started(workflow, plan_of(workflow.pk), [Start(key)], project=project, by=by, now=now)
    return found


def _started(
    workflow: Workflow, plan: Plan, starts: Sequence[Start], *, project: Project | None, by: Actor, now: datetime
) -> list[UUID]:
    rows = [(new_id(), start.key, _input(start)) for start in starts]
    keys = [key for _, key, _ in rows if key is not None]
    if len(set(keys)) != len(keys) or any(not 1 <= len(key) <= MAX_KEY_CHARS for key in keys):
        raise InvalidExecution(f"Keys have 1 to {MAX_KEY_CHARS} characters, and each is given once.")
    given = {
        "ids": [row[0] for row in rows],
        "keys": [row[1] for row in rows],
        "inputs": [row[2] for row in rows],
        "workflow": workflow.pk,
        "project": project.pk if project else None,
        "count": len(plan.nodes),
        "started_by": by.name,
        "now": now,
    }
    made = {row[0] for row in execute(statements.START, plan.columns | given)}
    if len(made) == len(rows):
        return [row[0] for row in rows]
    return _with_those_before(workflow.pk, project.pk if project else None, rows, made)


def _check_roles(workflow: Workflow, plan: Plan, project: Project | None) -> None:
    """Raise InvalidExecution unless the project has agents for a workflow's roles and something to work on."""
    if not plan.roles:
        check_not_given_up(project)
        return
    if project is None:
        raise InvalidExecution(f"{workflow} has nodes of a role: say in which project its tasks are made.")
    check_project(project)
    if missing := plan.roles - set(SquadMember.objects.filter(squad__project=project).values_list("role", flat=True)):
        raise InvalidExecution(
            f"Nobody in the squad of {project.name} is: {', '.join(sorted(missing))}. Add them to it first."
        )
    if len(of_role := [node for node in plan.nodes if node.role]) > MAX_TASKS:
        raise InvalidExecution(f"{workflow} has {len(of_role):,} nodes of a role; at most {MAX_TASKS:,} are started.")


def check_project(project: Project) -> None:
    """Lock a project, so that it is not delivered meanwhile, and raise InvalidExecution unless it is being built."""
    status, paused_from = (
        Project.objects.select_for_update(no_key=True).values_list("status", "paused_from").get(pk=project.pk)
    )
    if (paused_from or status) != ProjectStatus.BUILDING:
        raise InvalidExecution(
            f"{project.name} is {ProjectStatus(status).label.lower()}: workflows with roles change what a project is "
            "building, so they are at work from the approval of its demo until it is delivered."
        )


def check_not_given_up(project: Project | None) -> None:
    """Lock a project, so that it is not cancelled meanwhile, and raise InvalidExecution when it was given up."""
    if project is None:
        return
    status = Project.objects.select_for_update(no_key=True).values_list("status", flat=True).get(pk=project.pk)
    if status in GIVEN_UP_PROJECT:
        raise InvalidExecution(
            f"{project.name} is {ProjectStatus(status).label.lower()}: nothing is carried out in it any more. "
            "Start the workflow without a project, or in another one."
        )


def _with_those_before(
    workflow_id: UUID, project_id: UUID | None, rows: Sequence[tuple[UUID, str | None, str]], made: set[UUID]
) -> list[UUID]:
    wanted = [key for pk, key, _ in rows if pk not in made]
    before = {row.key: row for row in Execution.objects.filter(key__in=wanted).only("key", "workflow_id", "project_id")}
    for key in wanted:
        if (before[key].workflow_id, before[key].project_id) != (workflow_id, project_id):
            raise InvalidExecution(f"The key “{key}” belongs to an execution of another workflow or project.")
    return [pk if pk in made else before[key].pk for pk, key, _ in rows]


def pause_execution(execution: Execution, *, by: Actor, now: datetime) -> None:
    """Start no further node of it. Nodes that run end in their own time.

    Raises IllegalTransition, StaleState, InvalidExecution for a main job, which stands still with its project.
    """
    _check_not_main(execution, "Pause")
    with audit.journal(by=by, now=now) as journal:
        hold(execution, journal)


def hold(execution: Execution, journal: audit.Journal) -> None:
    """Pause an execution, whichever it is."""
    be_recorded(journal, execution)
    step(execution, ExecutionStatus.PAUSED, table=EXECUTION_TRANSITIONS, audited_status=ExecutionStatus.PAUSED)
    execution.nodes.filter(status=NodeStatus.READY).update(status=NodeStatus.HELD)
    record(journal, execution)


def resume_execution(execution: Execution, *, by: Actor, now: datetime) -> None:
    """Go on where it was paused. Raises IllegalTransition unless it is paused, StaleState, InvalidExecution for a main
    job."""
    _check_not_main(execution, "Resume")
    with audit.journal(by=by, now=now) as journal:
        release(execution, journal, now=now)


def release(execution: Execution, journal: audit.Journal, *, now: datetime) -> None:
    """Resume an execution, whichever it is."""
    if execution.status != ExecutionStatus.PAUSED:  # the table has other ways to running: what is done anew
        raise IllegalTransition(f"{execution} is {ExecutionStatus(execution.status).label.lower()}, not paused.")
    step(execution, ExecutionStatus.RUNNING, table=EXECUTION_TRANSITIONS, audited_status=ExecutionStatus.RUNNING)
    execution.nodes.filter(status=NodeStatus.HELD).update(status=NodeStatus.READY)
    record(journal, execution)
    steps.begin_ready(executions=[execution.pk], now=now)
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {statements.READY_CHANNEL}")


def cancel_execution(execution: Execution, *, reason: str, by: Actor, now: datetime) -> None:
    """Give it up: no node starts any more, and what running ones return is not taken. Raises IllegalTransition.

    Its tasks are cancelled right afterwards, in a transaction of their own; `keep_workflows` finds what that missed.
    Raises InvalidExecution for a main job, which is given up with its project.
    """
    _check_not_main(execution, "Cancel")
    reason = storable_text(reason, max_chars=2_000)
    with audit.journal(by=by, now=now) as journal:
        check_step(execution, ExecutionStatus.CANCELLED, EXECUTION_TRANSITIONS)
        Execution.objects.select_for_update(no_key=True).get(pk=execution.pk)
        be_recorded(journal, execution)
        with connection.cursor() as cursor:
            given = {"execution": str(execution.pk), "status": ExecutionStatus.CANCELLED.value, "detail": reason}
            cursor.execute(statements.STOP, given)
            if not cursor.fetchall():
                raise StaleState(f"{execution} has ended meanwhile.")
        Execution.objects.filter(pk=execution.pk).update(audited_status=ExecutionStatus.CANCELLED)
        execution.refresh_from_db()
        record(journal, execution, {"reason": reason})
    tasks.cancel_left(now=now)


def audit_executions(*, now: datetime, limit: int = 500) -> int:
    """Write to the audit log which executions were started, and how they ended since; return how many rows.

    Rows are marked in the same transaction: none is lost or recorded twice. Any number of sweepers may do it at once.
    """
    with audit.journal(by=steps.ENGINE, now=now) as journal:
        unaudited = Execution.objects.exclude(audited_status=F("status")).select_related("workflow").order_by("pk")
        found = list(unaudited.select_for_update(skip_locked=True, no_key=True, of=("self",))[:limit])
        record_news(journal, found)
    return len(found)


def forget_old(*, now: datetime) -> int:
    """Delete executions that ended KEPT ago, with their nodes and logs, at most so many at once; return how many.

    Their tasks stay, and what the audit log says of them. One that is not in the audit log yet is kept. Any number of
    sweepers may do it at once.
    """
    with audit.journal(by=steps.ENGINE, now=now) as journal:
        old = Execution.objects.filter(finished_at__lt=now - KEPT, audited_status=F("status")).order_by("finished_at")
        old = old.exclude(Q(workflow__key=MAIN_JOB) & ~Q(project__status__in=OVER_PROJECT))
        found = list(old.select_for_update(skip_locked=True, of=("self",))[:_FORGOTTEN_AT_ONCE])
        if not found:
            return 0
        ids = [execution.pk for execution in found]
        Execution.objects.filter(pk__in=ids).delete()
        ExecutionLog.objects.filter(execution_id__in=ids).delete()
        journal.add("execution.forgotten", details={"count": len(ids), "ended_before": found[-1].finished_at})
    return len(found)


def be_recorded(journal: audit.Journal, execution: Execution) -> None:
    """Record its start before what a person does to it, where the sweep was not there yet."""
    if Execution.objects.filter(pk=execution.pk, audited_status="").update(audited_status=ExecutionStatus.RUNNING):
        record(journal, execution, {"started_by": execution.started_by}, verb="started")


def _check_not_main(execution: Execution, verb: str) -> None:
    if execution.workflow.key == MAIN_JOB:
        raise InvalidExecution(f"This is the main job of {execution.project}. {verb} the project instead.")


def _input(start: Start) -> str:
    text = json.dumps(storable_json(start.input), allow_nan=False)
    if len(text) > MAX_INPUT_CHARS:
        raise InvalidExecution(
            f"The input has {len(text):,} characters of JSON; at most {MAX_INPUT_CHARS:,} are taken."
        )
    return text


def _lock_versions() -> None:
    """Let one caller at a time give out version numbers, until its transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_VERSIONS_LOCK])
