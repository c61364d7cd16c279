"""The life of a run: worked on, evaluated, merged, ended. How it begins is in `agents.actions.leases`.

Whoever holds the lease (`owner`) moves the run on. Others only ask (`ask_to_stop`), and the sweep ends what nobody
holds any more (`agents.actions.recovery`). Every ending goes through `_end`: the token dies with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from agents.actions import agents, checkpoints, messages, recoveries
from agents.actions.faults import PLATFORM_ERROR
from agents.models import Agent, Recovery, Run, Verification
from agents.states import ACTIVE_RUN, RUN_TRANSITIONS, STOPPABLE_RUN, RunStatus
from projects import audit
from projects.actions import tasks
from projects.actions.tasks import Setback
from projects.actors import Actor
from projects.errors import IllegalTransition, StaleState
from projects.ids import new_id
from projects.jsontext import storable_text
from projects.models import Project, Task
from projects.states import TaskStatus
from projects.transitions import step

SUPERVISOR = Actor.system("supervisor")
STOPPED = "stopped"
_OF = Recovery.Decision
# Why a person is asked, beside what went wrong.
_WHY_ASKED = {
    _OF.SAME_AGAIN: "It failed so before, and was tried again for it.",
    _OF.RECOVERY_ITSELF: "It was a second try already.",
    _OF.TASK_CAP: "It had as many second tries as a task may have.",
    _OF.ACCOUNT_CAP: "So many tasks were tried again within this hour that the others wait for a person.",
    _OF.SWITCHED_OFF: "That it is tried again by itself is switched off.",
}


@dataclass
class ProgramTimes:
    """From when to when a run's program was there. One that waited for its run began before there was one."""

    began_at: datetime | None = None
    up_at: datetime | None = None
    ended_at: datetime | None = None


def begin_running(run: Run, *, base_commit: str, working_dir: str, now: datetime) -> None:
    """Note that the agent's process is about to start on a clone of `base_commit`."""
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        step(run, RunStatus.RUNNING, table=RUN_TRANSITIONS, base_commit=base_commit)
        Agent.objects.filter(pk=run.agent_id).update(working_dir=working_dir, last_heartbeat=now)
        journal.add("run.running", project_id=run.project_id, agent_id=run.agent_id, obj=run)


def record_program(run: Run, times: ProgramTimes) -> None:
    """Keep from when to when a run's program was there."""
    Run.objects.filter(pk=run.pk).update(
        program_began_at=times.began_at, program_up_at=times.up_at, program_ended_at=times.ended_at
    )


def note_process(run: Run, pid: int) -> None:
    """Note which process speaks for a run's agent, unless the run has ended: then it is nobody's. May be done twice."""
    Agent.objects.filter(pk=run.agent_id, runs=run.pk, runs__status=RunStatus.RUNNING).update(pid=pid)


def begin_evaluation(run: Run, *, commit: str, now: datetime) -> None:
    """Note that the agent is done and the platform now looks at `commit`."""
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        step(run, RunStatus.EVALUATING, table=RUN_TRANSITIONS, commit=commit)
        if run.task.status == TaskStatus.IN_PROGRESS:
            tasks.review_task(run.task, by=SUPERVISOR, now=now)
        journal.add(
            "run.evaluating", project_id=run.project_id, agent_id=run.agent_id, obj=run, details={"commit": commit}
        )


def begin_merge(run: Run, *, merge_commit: str, now: datetime) -> None:
    """Write down which commit main is about to be moved to. After a crash this tells whether it happened.

    Raises StaleState when the task was cancelled meanwhile.
    """
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        # Locked, so that a project that is cancelled now waits, or is seen.
        if not Task.objects.select_for_update().filter(pk=run.task_id, status=TaskStatus.REVIEW).exists():
            raise StaleState(f"{run.task} is not under review any more.")
        step(run, RunStatus.MERGING, table=RUN_TRANSITIONS, merge_commit=merge_commit)
        journal.add(
            "run.merging", project_id=run.project_id, agent_id=run.agent_id, obj=run, details={"commit": merge_commit}
        )


def merge_again(run: Run, *, now: datetime) -> None:
    """Main moved meanwhile: look at the change again on top of it."""
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        given_up = run.merge_commit
        step(run, RunStatus.EVALUATING, table=RUN_TRANSITIONS, merge_commit="")
        journal.add(
            "run.merging_again", project_id=run.project_id, agent_id=run.agent_id, obj=run, details={"commit": given_up}
        )


def record_verification(
    project: Project, run: Run | None, purpose: Verification.Purpose, facts: dict[str, Any], *, now: datetime
) -> Verification:
    """Keep what the platform observed of a commit. `facts` are the fields of Verification.

    That it could observe nothing (PLATFORM_ERROR) is in the audit log as just that, and not as the commit's refusal.
    """
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        seen = Verification.objects.create(
            id=new_id(), project=project, run=run, purpose=purpose, created_at=now, **facts
        )
        refused = "commit.unseen" if seen.reason == PLATFORM_ERROR else "commit.refused"
        journal.add(
            "commit.verified" if seen.passed else refused,
            project_id=project.pk,
            agent_id=run.agent_id if run else None,
            obj=seen,
            details={
                "commit": seen.commit,
                "tree": seen.tree,
                "reason": seen.reason,
                "tests_run": seen.tests_run,
                "test_output_sha256": seen.test_output_sha256,
            },
        )
    return seen


@dataclass(frozen=True)
class Ending:
    """How a run ended badly, and what its task is told. `counts` as in `tasks.Setback`.

    `resumes` says whether the next run may go on from where the agent saved its work: not when the work itself was
    what was wrong. `what` failed, if that is known, as in `recoveries.decide`.
    """

    status: RunStatus
    reason: str
    detail: str
    context: dict[str, Any] = field(default_factory=dict)
    counts: bool = True
    delay: timedelta | None = None
    resumes: bool = False
    what: str = ""


def succeed(run: Run, *, result: dict[str, Any], now: datetime) -> None:
    """End a run whose work is in, and complete its task."""
    with audit.journal(by=SUPERVISOR, now=now):
        _end(run, RunStatus.SUCCEEDED, reason="completed", detail="", now=now)
        messages.confirm(run)
        tasks.complete_task(run.task, result, by=SUPERVISOR, now=now)
        agents.end_work(run, "completed", by=SUPERVISOR, now=now)


def wait_for_answer(run: Run, *, reason: str, detail: str, needs_admin: bool, now: datetime) -> None:
    """End a run that asked a question. Its task is blocked by whoever puts the question (see `outcomes`)."""
    with audit.journal(by=SUPERVISOR, now=now):
        _end(run, RunStatus.SUCCEEDED, reason=reason, detail=detail, now=now)
        agents.block(run, detail, needs_admin=needs_admin, by=SUPERVISOR, now=now)


def fail(run: Run, ending: Ending, *, now: datetime, go_on: Callable[[Setback], None] | None = None) -> None:
    """End a run that led to nothing; its task is tried again, or blocked when its attempts are used up.

    `go_on` is called in place of trying it again.
    """
    with audit.journal(by=SUPERVISOR, now=now):
        _end(run, ending.status, reason=ending.reason, detail=ending.detail, now=now)
        if run.task.status in {TaskStatus.ALLOCATED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW}:
            interrupted = ending.status == RunStatus.LOST or not ending.counts
            resume = resume_from(run, interrupted=interrupted) if ending.resumes else _from_the_beginning(run)
            told = ending.context | resume
            _go_on_or_ask(run, ending, told, go_on, now=now)
        agents.end_badly(run, ending.reason, by=SUPERVISOR, now=now)


def _go_on_or_ask(
    run: Run, ending: Ending, told: dict[str, Any], go_on: Callable[[Setback], None] | None, *, now: datetime
) -> None:
    decided = recoveries.decide(run, ending.reason, ending.detail, what=ending.what, counts=ending.counts, now=now)
    why = _WHY_ASKED.get(decided, "") if decided else ""
    setback = Setback(ending.reason, f"{ending.detail}\n\n{why}".strip(), told, ending.counts, ending.delay)
    if go_on is not None and decided in recoveries.GOES_ON:
        go_on(setback)
    # Used up attempts are counted, and asked about, by the task itself.
    elif decided in recoveries.GOES_ON or decided == Recovery.Decision.ATTEMPTS_USED:
        tasks.set_back(run.task, setback, by=SUPERVISOR, now=now)
    else:
        tasks.block_task(run.task, setback, ask_person=True, by=SUPERVISOR, now=now)


def resume_from(run: Run, *, interrupted: bool = False) -> dict[str, Any]:
    """Return what the next run needs to go on from this one's work, if it may; see `checkpoints.resume_of`."""
    return checkpoints.resume_of(run, interrupted=interrupted)


def _from_the_beginning(run: Run) -> dict[str, Any]:
    return {"checkpoint": None, "resume": None} if run.task.context.get("checkpoint") else {}


def ask_to_stop(project: Project, *, reason: str, task: Task | None = None, by: Actor, now: datetime) -> int:
    """Ask the supervisors of a project's active runs, or of those at one task, to end them. Return how many. Queued
    ones end at once."""
    wanted = Run.objects.filter(project=project) if task is None else Run.objects.filter(project=project, task=task)
    with audit.journal(by=by, now=now) as journal:
        count = _request_stop(wanted, reason=reason, now=now)
        journal.add("run.stop_requested", project_id=project.pk, details={"count": count, "reason": reason})
    return count


def stop_run(run: Run, *, by: Actor, now: datetime) -> None:
    """End a run in the middle of its work, as a person wants it. Its task is tried again and loses no attempt.

    One that began is ended by its supervisor, who hears of it within seconds. Raises IllegalTransition when its work
    is in already, when it has ended, and when it was asked before.
    """
    with audit.journal(by=by, now=now) as journal:
        run = Run.objects.select_for_update(of=("self",)).get(pk=run.pk)
        if run.status not in STOPPABLE_RUN:
            raise IllegalTransition(f"It is {RunStatus(run.status).label.lower()}: there is nothing to stop any more.")
        if run.stop_requested:
            raise IllegalTransition(f"It was asked to end already: {run.stop_requested}.")
        _request_stop(Run.objects.filter(pk=run.pk), reason=STOPPED, now=now)
        journal.add(
            "run.stop_requested",
            project_id=run.project_id,
            agent_id=run.agent_id,
            obj=run,
            details={"reason": STOPPED},
        )


def _request_stop(wanted: QuerySet[Run], *, reason: str, now: datetime) -> int:
    """Mark those of `wanted` that are active and not asked yet, and end those that have not begun. Return how many."""
    count = wanted.filter(status__in=ACTIVE_RUN, stop_requested="").update(stop_requested=reason)
    queued = wanted.select_for_update(of=("self",)).filter(status=RunStatus.QUEUED)
    for run in queued.select_related("task__project", "agent"):
        ending = Ending(RunStatus.CANCELLED, reason, "Stopped before it began.", counts=False, delay=timedelta(0))
        fail(run, ending, now=now)
    return count


def _end(run: Run, to: RunStatus, *, reason: str, detail: str, now: datetime) -> None:
    detail = storable_text(detail, max_chars=8_000)
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        step(run, to, table=RUN_TRANSITIONS, reason=reason, detail=detail, finished_at=now, token_hash="")
        journal.add(
            "run.ended",
            project_id=run.project_id,
            agent_id=run.agent_id,
            obj=run,
            details={"status": run.status, "reason": reason, "detail": detail[:500], "task": run.task.key},
        )
