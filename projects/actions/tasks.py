"""The life of a task: made, allocated, worked on, reviewed, completed, retried, blocked, given up.

Who calls what: `agents.actions` moves a task along with its run; decisions on blocked tasks come back through
`approvals.decide`. All of these expect to be called inside or outside of a journal; each opens its own and joins.
"""

import random
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet

from projects import audit
from projects.actions import approvals, nodes, steps
from projects.actions.new_tasks import create_build_tasks as create_build_tasks
from projects.actions.new_tasks import create_task as create_task
from projects.actions.new_tasks import new_build_tasks as new_build_tasks
from projects.actions.new_tasks import record_task
from projects.actors import Actor
from projects.errors import IllegalTransition, StaleState
from projects.jsontext import storable_json, storable_text
from projects.models import Approval, Project, Task, TaskDependency
from projects.states import (
    AWAITING_MERGE,
    OPEN_APPROVAL,
    OPEN_TASK,
    RUNNING_TASK,
    TASK_TRANSITIONS,
    ApprovalKind,
    TaskKind,
    TaskStatus,
)
from projects.transitions import check_step, step, step_all

BACKOFF_BASE = timedelta(seconds=2)
BACKOFF_MAX = timedelta(minutes=5)


@dataclass(frozen=True)
class Setback:
    """Why a task goes back: a code, a sentence, and what the next run must be told.

    `counts` says whether it uses up one of the task's attempts: a failure of the agent does, one of the platform or a
    decision of a person does not.
    """

    reason: str
    detail: str
    context: dict[str, Any] = field(default_factory=dict)
    counts: bool = True
    delay: timedelta | None = None


def allocate_tasks(given: Sequence[tuple[Task, UUID]], *, by: Actor, now: datetime) -> None:
    """Give ready tasks to agents, by their ids; a run for each is made in the same transaction.

    All or none: StaleState when one of them is not ready any more.
    """
    with audit.journal(by=by, now=now) as journal:
        step_all(
            [task for task, _ in given],
            TaskStatus.ALLOCATED,
            table=TASK_TRANSITIONS,
            each={"agent_id": [agent_id for _, agent_id in given]},
            reason="",
            detail="",
            progress=0,
        )
        for task, _ in given:
            record_task(journal, "task.allocated", task)


def start_tasks(begun: Sequence[Task], *, by: Actor, now: datetime) -> None:
    """Note that agents began. All or none, as above."""
    with audit.journal(by=by, now=now) as journal:
        first = [task.started_at or now for task in begun]
        step_all(begun, TaskStatus.IN_PROGRESS, table=TASK_TRANSITIONS, each={"started_at": first})
        for task in begun:
            record_task(journal, "task.started", task)


def report_progress(task: Task, percent: int, message: str, *, by: Actor, now: datetime) -> None:
    """Show how far an agent says it is. Its word moves a bar, never a status. Raises StaleState after the work."""
    with audit.journal(by=by, now=now) as journal:
        percent, detail = min(max(percent, 0), 100), storable_text(message, max_chars=500)
        working = Task.objects.filter(pk=task.pk, status=TaskStatus.IN_PROGRESS)
        if not working.update(progress=percent, detail=detail):
            raise StaleState(f"{task} is not being worked on.")
        task.progress, task.detail = percent, detail
        record_task(journal, "task.progress", task)


def review_task(task: Task, *, by: Actor, now: datetime) -> None:
    """Note that the agent is done and the platform checks its change."""
    with audit.journal(by=by, now=now) as journal:
        step(task, TaskStatus.REVIEW, table=TASK_TRANSITIONS)
        record_task(journal, "task.review", task)


def complete_task(task: Task, result: dict[str, Any], *, by: Actor, now: datetime) -> list[UUID]:
    """Complete a task and make ready what waited only for it. Return the ids of the newly ready.

    With a conflict the task is completed whose change it brought into main. The dependents' counts fall in one
    statement, whose cost does not depend on the size of the graph. Raises IllegalTransition, StaleState.
    """
    if task.status == TaskStatus.BLOCKED:
        raise IllegalTransition(f"{task} is blocked: nobody has done it.")
    with audit.journal(by=by, now=now):
        if task.kind == TaskKind.CONFLICT:  # any other alone has what waits for it locked as it is completed
            lock_to_complete(task)
        freed = _complete(task, result, by=by, now=now)
        if task.kind == TaskKind.CONFLICT:
            freed += _complete_resolved(task, result, by=by, now=now)
    return freed


def _complete(task: Task, result: dict[str, Any], *, by: Actor, now: datetime) -> list[UUID]:
    with audit.journal(by=by, now=now) as journal:
        waiting = lock_with_dependents(task)
        step(
            task,
            TaskStatus.COMPLETED,
            table=TASK_TRANSITIONS,
            completed_at=now,
            progress=100,
            reason="",
            detail="",
            result=storable_json(result),
            context={},
        )
        record_task(journal, "task.completed", task, {"kind": task.kind, "result": result})
        freed = free(waiting, journal, now=now)
        if task.kind == TaskKind.STEP:
            steps.complete(task, by=by, now=now)
    return [dependent.pk for dependent in freed]


def _complete_resolved(conflict: Task, result: dict[str, Any], *, by: Actor, now: datetime) -> list[UUID]:
    """Complete the task whose change a conflict brought into main, with what its own agent handed in."""
    assert conflict.parent_id is not None
    resolved = Task.objects.select_related("project").get(pk=conflict.parent_id)
    if (resolved.status, resolved.reason) != (TaskStatus.BLOCKED, AWAITING_MERGE):
        return []  # people decided otherwise meanwhile
    where = {name: result[name] for name in ("commit", "changed") if name in result}
    told = resolved.context.get("handed_in", {}) | where | {"resolved_by": conflict.key}
    return _complete(resolved, told, by=by, now=now)


def lock_to_complete(task: Task) -> TaskStatus:
    """Lock all that the completion of a task changes, in the order in which all lock tasks; return its status then.

    That is the task, what waits for it, and with a conflict the task it belongs to and what waits for that.
    """
    completed = [task.pk, *([task.parent_id] if task.kind == TaskKind.CONFLICT and task.parent_id else [])]
    statuses = dict(locked_with_dependents(completed).values_list("pk", "status"))
    return TaskStatus(statuses[task.pk])


def free(waiting: Sequence[Task], journal: audit.Journal, *, now: datetime) -> list[Task]:
    """Count a dependency less for locked tasks, and return those that it made ready."""
    Task.objects.filter(pk__in=[dependent.pk for dependent in waiting]).update(unmet_count=F("unmet_count") - 1)
    freed = [one for one in waiting if one.unmet_count == 1 and one.status == TaskStatus.PENDING]
    _make_ready(freed, now)
    for dependent in freed:
        record_task(journal, "task.ready", dependent)
    return freed


def lock_with_dependents(task: Task) -> list[Task]:
    """Lock a task and what depends on it, by key: two tasks completed at once, or a cancelled project, would else be
    able to wait for each other. Return the dependents as they are now."""
    return [one for one in locked_with_dependents([task.pk]) if one.pk != task.pk]


def locked_with_dependents(ids: Collection[UUID]) -> QuerySet[Task]:
    """Return tasks and those that depend on them, to be locked by key as they are read."""
    # One set: of "these, or among those" the database looks at every task there is.
    dependents = TaskDependency.objects.filter(depends_on__in=ids).values("task")
    both = dependents.union(Task.objects.filter(pk__in=ids).values("pk"))
    return Task.objects.select_for_update().filter(pk__in=both).order_by("pk")


def _make_ready(freed: Sequence[Task], now: datetime) -> None:
    """Make locked tasks ready in one statement, however many wait for one."""
    for task in freed:
        check_step(task, TaskStatus.READY, TASK_TRANSITIONS)
        task.status, task.unmet_count, task.ready_at, task.next_attempt_at = TaskStatus.READY, 0, now, now
    Task.objects.filter(pk__in=[task.pk for task in freed]).update(
        status=TaskStatus.READY, ready_at=now, next_attempt_at=now
    )


def set_back(task: Task, setback: Setback, *, by: Actor, now: datetime) -> None:
    """Have a task tried again, later and later; block it and ask for help when its attempts are used up.

    Raises IllegalTransition unless it is being worked on.
    """
    _check_is(task, RUNNING_TASK, "is not being worked on")
    attempts = task.attempts + (1 if setback.counts else 0)
    if setback.counts and attempts >= task.max_attempts:
        with audit.journal(by=by, now=now):
            block_task(task, setback, ask_person=True, by=by, now=now)
            Task.objects.filter(pk=task.pk).update(attempts=attempts)
            task.attempts = attempts
        return
    delay = setback.delay if setback.delay is not None else _backoff(attempts)
    with audit.journal(by=by, now=now) as journal:
        step(
            task,
            TaskStatus.READY,
            table=TASK_TRANSITIONS,
            attempts=attempts,
            agent_id=None,
            next_attempt_at=now + delay,
            ready_at=now,
            progress=0,
            reason=setback.reason,
            detail=storable_text(setback.detail, max_chars=8_000),
            context=task.context | storable_json(setback.context, max_chars=8_000),
        )
        record_task(journal, "task.set_back", task, {"reason": setback.reason, "detail": setback.detail})


def block_task(
    task: Task,
    setback: Setback,
    *,
    ask_person: bool,
    handed_in: dict[str, Any] | None = None,
    by: Actor,
    now: datetime,
) -> None:
    """Stop working on a task until somebody answers. With `ask_person` a decision is put into the inbox.

    A conflict is given up instead, and people are asked about the task whose change it is. `handed_in` is what the task
    is to be completed with: unlike what the next run is told, it is kept whole, as `complete_task` keeps it.
    """
    kept = {} if handed_in is None else {"handed_in": storable_json(handed_in)}
    with audit.journal(by=by, now=now) as journal:
        step(
            task,
            TaskStatus.BLOCKED,
            table=TASK_TRANSITIONS,
            agent_id=None,
            reason=setback.reason,
            detail=storable_text(setback.detail, max_chars=8_000),
            context=task.context | storable_json(setback.context, max_chars=8_000) | kept,
        )
        record_task(journal, "task.blocked", task, {"reason": setback.reason, "detail": setback.detail})
        if ask_person and task.kind == TaskKind.CONFLICT:
            # One question: about the task whose change it is. The sweep asks it (`conflicts.ask_about_unresolved`).
            fail_task(task, reason=setback.reason, detail=setback.detail, by=by, now=now)
        elif ask_person:
            approvals.ask(
                task.project,
                ApprovalKind.BLOCKED_TASK,
                subject_id=task.pk,
                title=f"“{task.title}” is stuck",
                body=setback.detail,
                task=task,
                by=by,
                now=now,
            )


def unblock_task(task: Task, context: dict[str, Any], *, by: Actor, now: datetime) -> None:
    """Let a blocked or failed task be tried again, with fresh attempts; `context` is added to what it is told.

    A conflict that is resolved below it is called off. Raises IllegalTransition when it is neither, and for a conflict
    that was given up.
    """
    _check_is(task, {TaskStatus.BLOCKED, TaskStatus.FAILED}, "does not wait for anybody")
    if task.kind == TaskKind.CONFLICT and task.status == TaskStatus.FAILED:
        raise IllegalTransition(f"{task} was given up: try the task again whose change it is.")
    with audit.journal(by=by, now=now) as journal:
        step(
            task,
            TaskStatus.READY,
            table=TASK_TRANSITIONS,
            attempts=0,
            next_attempt_at=now,
            ready_at=now,
            reason="",
            detail="",
            context=task.context | storable_json(context, max_chars=8_000),
        )
        record_task(journal, "task.ready", task)
        cancel_conflict_of(task, "retried", journal)


def fail_task(task: Task, *, reason: str, detail: str, by: Actor, now: datetime) -> None:
    """Give a task up."""
    with audit.journal(by=by, now=now) as journal:
        detail = storable_text(detail, max_chars=8_000)
        step(task, TaskStatus.FAILED, table=TASK_TRANSITIONS, reason=reason, detail=detail)
        record_task(journal, "task.failed", task, {"reason": reason, "detail": detail})
        cancel_conflict_of(task, reason, journal)
        if task.kind == TaskKind.STEP:
            steps.fail(task, f"Its task was given up: {detail}", by=by, now=now)


def cancel_open_tasks(project: Project, *, reason: str, by: Actor, now: datetime) -> int:
    """Cancel all that is not finished, with its executions, and withdraw its open questions. Return how many tasks."""
    count = 0
    with audit.journal(by=by, now=now) as journal:
        unfinished = project.tasks.select_for_update().filter(status__in=OPEN_TASK | {TaskStatus.FAILED})
        # Again until there is none: whoever held one of the locks that were waited for may have made another task.
        while tasks := list(unfinished.order_by("pk")):
            for task in tasks:
                cancel_task(task, reason, journal)
            count += len(tasks)
        # Also where no task is open, as while a plan or a demo waits for its decision.
        open_approvals = Approval.objects.filter(project=project, status__in=OPEN_APPROVAL)
        approvals.withdraw(list(open_approvals), reason=reason, by=by, now=now)
        nodes.stop_executions(project, reason=reason, journal=journal)
    return count


def cancel_left(*, now: datetime) -> int:
    """Cancel the tasks of nodes that wait for them no more, because the execution ended or the node is done anew; what
    waits for them in the project goes on without them. Return how many. Any number of sweepers may do it at once."""
    projects = sorted({task.project_id for task in steps.left_tasks()})
    return sum(_cancel_left_of(project_id, now) for project_id in projects)


def _cancel_left_of(project_id: UUID, now: datetime) -> int:
    with audit.journal(by=steps.ENGINE, now=now) as journal:
        # The project first, as when a decision is taken; then all tasks in one order, with those that wait for them.
        Project.objects.select_for_update(no_key=True).get(pk=project_id)
        found = {task.pk for task in steps.left_tasks(project_id)}
        list(locked_with_dependents(found).values_list("pk", flat=True))
        # Looked at again: whoever held one of the locks may have ended it.
        left = [task for task in steps.left_tasks(project_id) if task.pk in found]
        for task in left:
            cancel_task(task, "execution_over", journal)
            cancel_conflict_of(task, "execution_over", journal)
            approvals.withdraw(asked_about(task), reason="execution_over", by=steps.ENGINE, now=now)
        for task in left:
            free(lock_with_dependents(task), journal, now=now)
    return len(left)


def cancel_task(task: Task, reason: str, journal: audit.Journal, *, detail: str = "") -> None:
    """Cancel a locked task: what waits for it, what was asked about it, and its conflict, is the caller's."""
    was_running = task.status in RUNNING_TASK
    step(task, TaskStatus.CANCELLED, table=TASK_TRANSITIONS, reason=reason, detail=detail, agent_id=None)
    record_task(journal, "task.cancelled", task, {"reason": reason, "was_running": was_running})


def cancel_conflict_of(task: Task, reason: str, journal: audit.Journal) -> None:
    """Call off what resolves a conflict of a task that goes another way. The task's row must be locked."""
    if (conflict := open_conflict_of(task)) is not None:
        cancel_task(conflict, reason, journal)


def open_conflict_of(task: Task) -> Task | None:
    """Return the conflict below a task that is to be resolved, locked."""
    found = Task.objects.select_for_update(of=("self",)).filter(parent=task, kind=TaskKind.CONFLICT)
    return found.filter(status__in=OPEN_TASK).select_related("project").first()


def asked_about(task: Task) -> list[Approval]:
    """Return what is asked of people about a task."""
    return list(Approval.objects.filter(task=task, status__in=OPEN_APPROVAL))


def ask_questions(
    task: Task, questions: list[dict[str, Any]], *, context: dict[str, Any] | None = None, by: Actor, now: datetime
) -> Approval:
    """Block a task until the client, through the admin, answered `questions` ([{question, options, recommended}])."""
    asked = Setback("awaiting_answer", "Waits for the client's answer.", context or {}, counts=False)
    with audit.journal(by=by, now=now):
        block_task(task, asked, ask_person=False, by=by, now=now)
        return approvals.ask(
            task.project,
            ApprovalKind.QUESTION,
            subject_id=task.pk,
            title=questions[0]["question"] if len(questions) == 1 else f"{len(questions)} questions about the brief",
            task=task,
            questions=questions,
            by=by,
            now=now,
        )


def decide_questions(approval: Approval, decision: approvals.Decision, by: Actor, now: datetime) -> None:
    """Hand the answers to the task that asked."""
    assert approval.task is not None
    told = approval.task.context.get("questions", [])
    told += [
        {"question": asked["question"], "answer": answer}
        for asked, answer in zip(approval.questions, decision.answers, strict=True)
    ]
    unblock_task(approval.task, {"questions": told}, by=by, now=now)


def decide_blocked(approval: Approval, decision: approvals.Decision, by: Actor, now: datetime) -> None:
    """Try a stuck task again, with the person's comment as advice, or give it up."""
    assert approval.task is not None
    if decision.option == "retry":
        advice = approval.task.context.get("mentor", [])
        if decision.comment:
            advice = [*advice, {"question": approval.body[:2_000], "reply": decision.comment}]
        unblock_task(approval.task, {"mentor": advice}, by=by, now=now)
    else:
        fail_task(
            approval.task,
            reason="given_up",
            detail=decision.comment or "Given up by the admin.",
            by=by,
            now=now,
        )


def _check_is(task: Task, expected: Set[TaskStatus], problem: str) -> None:
    """Raise IllegalTransition in other states. The table has more ways to ready than each of the verbs may take."""
    if task.status not in expected:
        raise IllegalTransition(f"{task} {problem}: it is {TaskStatus(task.status).label.lower()}.")


def _backoff(attempts: int) -> timedelta:
    """Return how long to wait: doubling, with jitter so that many failures do not come back together."""
    seconds = min(BACKOFF_BASE.total_seconds() * 2 ** max(attempts - 1, 0), BACKOFF_MAX.total_seconds())
    return timedelta(seconds=seconds * random.uniform(0.5, 1.0))


approvals.register(ApprovalKind.QUESTION, decide_questions)
approvals.register(ApprovalKind.BLOCKED_TASK, decide_blocked)
