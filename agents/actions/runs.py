"""The life of a run: held, claimed, worked on, evaluated, merged, ended.

Whoever holds the lease (`owner`) moves the run on. Others only ask (`ask_to_stop`), and the sweep ends what nobody
holds any more (`agents.actions.recovery`). Every ending goes through `_end`: the token dies with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from agents.actions import agents, checkpoints, messages, recoveries
from agents.errors import LeaseLost
from agents.models import Agent, Run, Verification
from agents.states import ACTIVE_RUN, RUN_TRANSITIONS, STOPPABLE_RUN, RunStatus
from agents.tokens import hash_token, new_token
from projects import audit
from projects.actions import tasks
from projects.actions.tasks import Setback
from projects.actors import Actor
from projects.bulk import update_each
from projects.errors import IllegalTransition, StaleState
from projects.ids import new_id
from projects.jsontext import storable_text
from projects.models import Project, Task
from projects.secrets import model_mode, rehearsing
from projects.states import TaskStatus
from projects.transitions import step, step_all

SUPERVISOR = Actor.system("supervisor")
STOPPED = "stopped"


def _lease(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.EKLAVYA_LEASE_SECONDS)


@dataclass(frozen=True)
class Held:
    """A run that is held here, with what belongs to it, and its token."""

    run: Run
    token: str = field(repr=False)


@dataclass(frozen=True)
class Reserved:
    """What a run must be made with to take a program that waits for one: its id and its token."""

    run_id: UUID
    token: str = field(repr=False)


@dataclass
class ProgramTimes:
    """From when to when a run's program was there. One that waited for its run began before there was one."""

    began_at: datetime | None = None
    up_at: datetime | None = None
    ended_at: datetime | None = None


def lease(run: Run, *, owner: str, now: datetime, token: str = "") -> str:
    """Give a run that is being made its first lease, and return its token: a fresh one unless given. Saves nothing."""
    run.rehearsal = model_mode(run.project_id) == "rehearsal"
    return _lease_to(run, owner, token or new_token(), now=now)


def _lease_to(run: Run, owner: str, token: str, *, now: datetime) -> str:
    run.lease_owner, run.lease_until, run.token_hash = owner, _lease(now), hash_token(token)
    return token


def hold_run(run: Run, *, owner: str, prompt_version_id: UUID | None, now: datetime) -> str:
    """Put the first lease on a queued run and return its fresh token. Raises LeaseLost when somebody else has it."""
    run.prompt_version_id = run.prompt_version_id or prompt_version_id
    held = hold_runs([run], owner=owner, now=now)
    if not held:
        raise LeaseLost
    return held[0].token


def hold_runs(queued: Sequence[Run], *, owner: str, now: datetime) -> list[Held]:
    """Put the first leases on queued runs, with the prompt versions that they name; leave those out that others have.

    A message that is delivered twice ends here: the second finds the run held. One short statement, so that the CLI can
    start while the run is being claimed. A hold that nobody follows up runs out like any lease.
    """
    rehearsed = rehearsing({run.project_id for run in queued})
    for run in queued:
        run.rehearsal = run.project_id in rehearsed
    tokens = {run.pk: _lease_to(run, owner, new_token(), now=now) for run in queued}
    own = {name: [getattr(run, name) for run in queued] for name in ("token_hash", "rehearsal", "prompt_version_id")}
    free = {"status": RunStatus.QUEUED, "lease_owner": ""}
    held = update_each(Run, [*tokens], each=own, where=free, lease_owner=owner, lease_until=_lease(now))
    return [Held(run, tokens[run.pk]) for run in queued if run.pk in held]


def claim_run(run: Run, *, now: datetime) -> None:
    """Begin a run that is held, and its task. Raises LeaseLost when it was ended meanwhile."""
    with audit.journal(by=SUPERVISOR, now=now, is_whole=True) as journal:
        held = Run.objects.select_for_update().filter(
            pk=run.pk, status=RunStatus.QUEUED, lease_owner=run.lease_owner, token_hash=run.token_hash
        )
        if not run.lease_owner or not held.exists():
            raise LeaseLost
        _begin([run], journal, now=now)


def claim_runs(held: Sequence[Run], *, now: datetime) -> list[Run]:
    """Begin runs that are held, and their tasks, all in one transaction, and return them.

    Those that are not held any more, or in somebody else's hands for a moment, are left out: `claim_run` says which.
    Whoever locks many rows must not wait for any.
    """
    with audit.journal(by=SUPERVISOR, now=now, is_whole=True) as journal:
        rows = Run.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            pk__in=[run.pk for run in held], status=RunStatus.QUEUED
        )
        free = {
            pk: (owner, token_hash) for pk, owner, token_hash in rows.values_list("pk", "lease_owner", "token_hash")
        }
        mine = [run for run in held if run.lease_owner and free.get(run.pk) == (run.lease_owner, run.token_hash)]
        allocated = Task.objects.select_for_update(skip_locked=True).filter(
            pk__in=[run.task_id for run in mine], status=TaskStatus.ALLOCATED
        )
        there = set(allocated.values_list("pk", flat=True))
        begun = [run for run in mine if run.task_id in there]
        if begun:
            _begin(begun, journal, now=now)
    return begun


def _begin(begun: Sequence[Run], journal: audit.Journal, *, now: datetime) -> None:
    step_all(begun, RunStatus.STARTING, table=RUN_TRANSITIONS, started_at=now)
    tasks.start_tasks([run.task for run in begun], by=SUPERVISOR, now=now)
    for run in begun:
        details = {"owner": run.lease_owner}
        journal.add("run.claimed", project_id=run.project_id, agent_id=run.agent_id, obj=run, details=details)


class Renewed(NamedTuple):
    """What a supervisor hears with a lease it renews: why its run is asked to stop, or "", and whether mail waits."""

    stop_requested: str
    has_mail: bool


def renew_leases(run_ids: list[UUID], *, owner: str, now: datetime) -> dict[UUID, Renewed]:
    """Renew the leases that `owner` still holds. Return each such run with what its supervisor has to hear."""
    held = Run.objects.filter(pk__in=run_ids, lease_owner=owner, status__in=ACTIVE_RUN)
    held.update(lease_until=_lease(now))
    rows = list(held.values_list("pk", "stop_requested", messages.HAS_MAIL, "agent_id"))
    Agent.objects.filter(pk__in=[agent_id for *_, agent_id in rows]).update(last_heartbeat=now)
    return {pk: Renewed(stop, bool(has_mail)) for pk, stop, has_mail, _ in rows}


def note_late(run_id: UUID, *, owner: str, now: datetime) -> None:
    """Record that `owner` found its run taken away, or ended: whatever it would have reported was not taken."""
    run = Run.objects.filter(pk=run_id).exclude(lease_owner=owner, status__in=ACTIVE_RUN).first()
    if run is not None:
        with audit.journal(by=SUPERVISOR, now=now) as journal:
            details = {"owner": owner, "status": run.status, "reason": run.reason}
            journal.add("run.came_late", project_id=run.project_id, agent_id=run.agent_id, obj=run, details=details)


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
    """Keep what the platform observed of a commit. `facts` are the fields of Verification."""
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        seen = Verification.objects.create(
            id=new_id(), project=project, run=run, purpose=purpose, created_at=now, **facts
        )
        journal.add(
            "commit.verified" if seen.passed else "commit.refused",
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
    what was wrong. With `asks_person` its task is not tried again by itself.
    """

    status: RunStatus
    reason: str
    detail: str
    context: dict[str, Any] = field(default_factory=dict)
    counts: bool = True
    delay: timedelta | None = None
    resumes: bool = False
    asks_person: bool = False


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


def fail(run: Run, ending: Ending, *, now: datetime) -> None:
    """End a run that led to nothing; its task is tried again, or blocked when its attempts are used up."""
    with audit.journal(by=SUPERVISOR, now=now):
        _end(run, ending.status, reason=ending.reason, detail=ending.detail, now=now)
        if run.task.status in {TaskStatus.ALLOCATED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW}:
            interrupted = ending.status == RunStatus.LOST or not ending.counts
            resume = resume_from(run, interrupted=interrupted) if ending.resumes else _from_the_beginning(run)
            told = ending.context | resume
            setback = Setback(ending.reason, ending.detail, told, ending.counts, ending.delay)
            if ending.asks_person or recoveries.is_off(ending.reason):
                tasks.block_task(run.task, setback, ask_person=True, by=SUPERVISOR, now=now)
            else:
                tasks.set_back(run.task, setback, by=SUPERVISOR, now=now)
        agents.end_badly(run, ending.reason, by=SUPERVISOR, now=now)


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
