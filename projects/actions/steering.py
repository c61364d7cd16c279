"""What a person does to one task at any moment: has it tried again, left out, or done by another role.

Each takes the project's row, then the task's, and decides on what it finds there: whatever happens at the same time
comes before it or after it. What it cannot do then is refused with the reason.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from projects import audit
from projects.actions import approvals, nodes, steps, tasks
from projects.actions.new_tasks import record_task
from projects.actors import Actor
from projects.errors import DomainError, IllegalTransition
from projects.jsontext import storable_text
from projects.models import ExecutionNode, Project, SquadMember, Task
from projects.queries import SKIPPED
from projects.roles import Role
from projects.states import OPEN_TASK, RUNNING_TASK, NodeStatus, TaskKind, TaskStatus

# What the platform's own line waits for cannot be left out, and its roles are given.
STEERED = frozenset({TaskKind.BUILD, TaskKind.STEP})


class CannotSteer(DomainError):
    """This cannot be done to this task."""


def retry_task(task: Task, *, by: Actor, now: datetime) -> None:
    """Have a blocked or failed task tried again with fresh attempts, or one that waits for its next attempt at once.

    What was asked about it is withdrawn. Raises IllegalTransition, CannotSteer.
    """
    with audit.journal(by=by, now=now) as journal:
        task = _locked(task)
        record_task(journal, "task.retried", task, {"was": task.status})
        match task.status:
            case TaskStatus.READY if task.next_attempt_at > now:
                Task.objects.filter(pk=task.pk).update(next_attempt_at=now)
                record_task(journal, "task.ready", task)
            case TaskStatus.BLOCKED:
                approvals.withdraw(tasks.asked_about(task), reason="retried", by=by, now=now)
                tasks.unblock_task(task, {}, by=by, now=now)
            case TaskStatus.FAILED if task.kind == TaskKind.STEP:
                raise CannotSteer(f"{task} was given up, and its execution went on: retry from its node there.")
            case TaskStatus.FAILED:
                tasks.unblock_task(task, {}, by=by, now=now)
            case _:
                raise IllegalTransition(f"{task} is {_words(task)}: there is nothing to try again.")


def skip_task(task: Task, *, result: dict[str, Any] | None = None, by: Actor, now: datetime) -> None:
    """Leave a task out: what waits for it goes on without it, and a run that is at it is ended.

    Of a step, conditions are decided on `result`. Raises IllegalTransition once it is over, CannotSteer for a task that
    the platform itself waits for, and where conditions cannot be decided.
    """
    with audit.journal(by=by, now=now) as journal:
        task, waiting = _locked_with_dependents(task)
        _check_steered(task, "left out")
        tasks.cancel_task(task, SKIPPED, journal, detail=storable_text(f"Left out by {by.name}.", max_chars=500))
        tasks.cancel_conflict_of(task, SKIPPED, journal)
        approvals.withdraw(tasks.asked_about(task), reason=SKIPPED, by=by, now=now)
        tasks.free(waiting, journal, now=now)
        if task.kind == TaskKind.STEP:
            running = ExecutionNode.objects.filter(task=task, status=NodeStatus.RUNNING).first()
            if running is not None:
                to_begin = nodes.leave_out(running, result, journal=journal)
                steps.begin_ready(executions=to_begin, now=now)
            else:  # it was added below another, which may wait for nothing else
                steps.complete(task, by=by, now=now)


def reassign_task(task: Task, role: str, *, by: Actor, now: datetime) -> None:
    """Have a task done by another role of the project's squad. A run that is at it is ended; it loses no attempt.

    Raises CannotSteer, IllegalTransition once it is over.
    """
    with audit.journal(by=by, now=now) as journal:
        task = _locked(task)
        _check_steered(task, "given to another role")
        if task.status not in OPEN_TASK | {TaskStatus.FAILED}:
            raise IllegalTransition(f"{task} is {_words(task)}: nobody works on it any more.")
        check_role(task.project, role)
        if role == task.role:
            raise CannotSteer(f"{task} is {Role(role).label}'s already.")
        _give(task, role, journal)
        # What is left of it to do.
        if (conflict := tasks.open_conflict_of(task)) is not None and conflict.role != role:
            _give(conflict, role, journal)


def _give(task: Task, role: str, journal: audit.Journal) -> None:
    before, task.role = task.role, role
    task.context = {name: value for name, value in task.context.items() if name != "agent"}
    # A specialisation narrows the role that it was made for.
    Task.objects.filter(pk=task.pk).update(role=role, context=task.context, specialisation="")
    told = {"from": before, "to": role, "was_running": task.status in RUNNING_TASK}
    record_task(journal, "task.reassigned", task, told)


def check_role(project: Project, role: str) -> None:
    """Raise CannotSteer unless somebody of the project's squad has this role."""
    known: Sequence[str] = sorted(SquadMember.objects.filter(squad__project=project).values_list("role", flat=True))
    if role not in known or role == Role.MENTOR:
        listed = ", ".join(one for one in known if one != Role.MENTOR)
        raise CannotSteer(f"Nobody in the squad of {project.name} is “{role[:40]}”. Choose one of: {listed}.")


def _locked(task: Task) -> Task:
    # The project before the task, as when a decision about it is taken: else both could wait for each other.
    Project.objects.select_for_update(no_key=True).get(pk=task.project_id)
    return Task.objects.select_for_update(of=("self",)).select_related("project").get(pk=task.pk)


def _locked_with_dependents(task: Task) -> tuple[Task, list[Task]]:
    """Lock a task and what waits for it in one go, as whoever completes what both wait for: else each would wait for
    the other."""
    Project.objects.select_for_update(no_key=True).get(pk=task.project_id)
    waiting = tasks.lock_with_dependents(task)
    return Task.objects.select_related("project").get(pk=task.pk), waiting


def _check_steered(task: Task, what: str) -> None:
    if task.kind not in STEERED:
        raise CannotSteer(f"{task} cannot be {what}: the project goes on from what it brings.")


def _words(task: Task) -> str:
    return TaskStatus(task.status).label.lower()
