"""Supervising one run, from the lease to the end. Everything that decides is read from rows; this only takes the steps.

The caller is a Celery task, but the message that started it was only a hint: whoever does not get the lease goes home.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from uuid import UUID

from django.conf import settings

from agents.actions import checkpoints, faults, leases, money, outages, outcomes, recovery, runs
from agents.actions.leases import Held
from agents.actions.money import OVER_BUDGET, RUN_BUDGET
from agents.actions.runs import STOPPED, Ending
from agents.actions.workers import DRAINING, WORKER_GONE
from agents.context import first_message
from agents.errors import LeaseLost
from agents.models import Run
from agents.remote.files import FilesTooLarge, WorkerAway
from agents.remote.runtime import RemoteRuntime
from agents.roles import limits_of_run, policy_of
from agents.runtimes.contract import Runtime
from agents.states import RunStatus
from agents.supervisor import claiming, teardown, workplace
from agents.supervisor.claiming import reload_run
from agents.supervisor.connections import AWAY, give_back, patiently
from agents.supervisor.evaluate import evaluate
from agents.supervisor.keeper import LEASE_LOST, WORKER_STOPPING, LeaseKeeper, Stop
from agents.supervisor.program import Program
from agents.supervisor.progress import Progress, digest_of_files
from agents.supervisor.session import Keeping, Limits, SessionEnd, drive
from agents.supervisor.workplace import Workplace
from agents.workspace.errors import WorkspaceError
from projects.states import TaskKind, TaskStatus

logger = logging.getLogger(__name__)
Clock = Callable[[], datetime]

MINUTE_S = 60.0
PAUSED = "paused"
REASSIGNED = "reassigned"
CANCELLED = "cancelled"
FILES_TOO_LARGE = "files_too_large"

# Ends that are not the agent's doing: the task is tried again without using up an attempt.
_NOT_COUNTED = frozenset({WORKER_STOPPING, DRAINING, PAUSED, REASSIGNED, STOPPED, CANCELLED, OVER_BUDGET, WORKER_GONE})
# Ends from which the next run goes on with the files as they were: the work was interrupted, wherever that run is.
_HANDED_OVER = frozenset({WORKER_STOPPING, DRAINING, PAUSED, WORKER_GONE})
_STATUS = {
    OVER_BUDGET: RunStatus.OVER_BUDGET,
    RUN_BUDGET: RunStatus.OVER_BUDGET,
    CANCELLED: RunStatus.CANCELLED,
    PAUSED: RunStatus.CANCELLED,
    REASSIGNED: RunStatus.CANCELLED,
    STOPPED: RunStatus.CANCELLED,
    WORKER_STOPPING: RunStatus.CANCELLED,
    DRAINING: RunStatus.CANCELLED,
    WORKER_GONE: RunStatus.LOST,
    FILES_TOO_LARGE: RunStatus.FAILED,
}
# Why a run ends that was asked to stop, for people: the CLI only knows that it was interrupted or refused.
_SENTENCES = {
    CANCELLED: "The task was cancelled while the agent worked on it.",
    REASSIGNED: "The task was given to another role while the agent worked on it.",
    PAUSED: "The project was paused while the agent worked.",
    STOPPED: "An admin stopped it while the agent worked. The task is tried again.",
    WORKER_STOPPING: "The worker was stopped while the agent worked. The task goes on as soon as one is there.",
    DRAINING: "The worker was taken out of use while the agent worked. Another one goes on with it.",
    WORKER_GONE: "The remote worker went away while the agent worked, and with it what was not saved. Another goes on.",
    "turn_limit": "The agent used all its requests to the model without finishing.",
}


@dataclass(frozen=True)
class Booted:
    """A program that is up in the place of its run, and the event loop in which it is spoken to."""

    place: Workplace
    program: Program
    loop: asyncio.Runner


def ignore(run: Run) -> None:
    """Expect nothing of a run."""


class _Unwanted(Exception):
    """The run's task was cancelled."""


def supervise(
    run_id: UUID,
    *,
    keeper: LeaseKeeper,
    runtime: Runtime,
    clock: Clock,
    expect: Callable[[Run], None] = ignore,
) -> None:
    """Do a run, and leave a truthful end of it. Returns at once when the run is somebody else's.

    `expect` is told of a run whose agent handed its work in, before that is verified.
    """
    held = claiming.hold_all([run_id], owner=keeper.owner, clock=clock)
    if not held:
        logger.info("run %s is not for us", run_id)
        return
    supervise_held(held[0], keeper=keeper, runtime=runtime, clock=clock, expect=expect)


def supervise_held(
    held: Held,
    *,
    keeper: LeaseKeeper,
    runtime: Runtime,
    clock: Clock,
    booted: Booted | None = None,
    expect: Callable[[Run], None] = ignore,
) -> None:
    """Do a run that the keeper's owner holds, and leave a truthful end of it.

    With `booted` its program is up already.
    """
    run = held.run
    with keeper.hold(run.pk) as stop:
        try:
            _work_or_fail(held, stop, booted, runtime=runtime, clock=clock, expect=expect)
        except LeaseLost:
            # Somebody else already wrote how it ended; only what runs here is ours to clear away.
            logger.warning("the lease of run %s was lost", run.pk)
            with suppress(*AWAY):
                leases.note_late(run.pk, owner=keeper.owner, now=clock())
        finally:
            if not teardown.finish(run.pk, runtime, now=clock()):
                logger.warning("run %s ended, and the sweep removes its directories later", run.pk)


def _work_or_fail(
    held: Held, stop: Stop, booted: Booted | None, *, runtime: Runtime, clock: Clock, expect: Callable[[Run], None]
) -> None:
    run = held.run
    try:
        if booted is None:
            with asyncio.Runner() as loop:
                booted = _prepared(held, stop, loop, runtime=runtime, clock=clock)
                _work(run, stop, booted, clock=clock, expect=expect)
        else:
            _work(run, stop, replace(booted, place=replace(booted.place, run=run)), clock=clock, expect=expect)
    except LeaseLost:
        raise
    except _Unwanted:
        _fail(run, CANCELLED, "", stop, clock=clock)
    except WorkerAway as error:
        logger.warning("run %s: %s", run.pk, error)
        patiently(lambda: _fail(run, WORKER_GONE, "", stop, clock=clock), is_futile=lambda: _is_lost(stop))
    except FilesTooLarge as error:
        detail = str(error)
        patiently(lambda: _fail(run, FILES_TOO_LARGE, detail, stop, clock=clock), is_futile=lambda: _is_lost(stop))
    except Exception as error:
        logger.exception("run %s failed on the platform's side", run.pk)
        detail = f"Something failed on the platform's side: {error}"
        patiently(lambda: _fault(run, detail, stop, clock=clock), is_futile=lambda: _is_lost(stop))


def _prepared(held: Held, stop: Stop, loop: asyncio.Runner, *, runtime: Runtime, clock: Clock) -> Booted:
    place = workplace.prepare(held.run, held.token, runtime)
    program = Program(workplace.options_for(place), clock=clock)
    _check(stop)
    return Booted(place, program, loop)


def _work(run: Run, stop: Stop, booted: Booted, *, clock: Clock, expect: Callable[[Run], None]) -> None:
    place = booted.place
    limits = _limits(run)
    give_back()
    kill = partial(place.runtime.kill, place.spec.name)
    end = booted.loop.run(
        drive(
            run,
            booted.program,
            opening=partial(_open, place, stop, clock=clock),
            limits=limits,
            stop=stop,
            clock=clock,
            kill=kill,
            progress=_progress(place),
            keep=Keeping(partial(_keep_now, run.pk, stop, clock=clock), settings.EKLAVYA_CHECKPOINT_MINUTES * MINUTE_S),
        )
    )
    # Whatever the conversation's end was, from here on nothing of the agent runs.
    kill()
    _check_lease(stop)
    times = booted.program.times
    patiently(lambda: runs.record_program(run, times), is_futile=lambda: _is_lost(stop))
    patiently(lambda: _conclude(place, end, stop, clock=clock, expect=expect), is_futile=lambda: _is_lost(stop))


def _open(place: Workplace, stop: Stop, *, clock: Clock) -> str:
    """Claim the run and finish its place while the CLI starts. Return what the agent is told first."""
    tries = count()
    run = patiently(
        lambda: claiming.claim(place.run, clock=clock, is_again=next(tries) > 0), is_futile=lambda: _is_lost(stop)
    )
    place = workplace.fill(replace(place, run=run))
    _check(stop)
    told = patiently(lambda: first_message(run), is_futile=lambda: _is_lost(stop))
    tries = count()
    patiently(lambda: _begin_running(place, clock=clock, is_again=next(tries) > 0), is_futile=lambda: _is_lost(stop))
    return told


def _begin_running(place: Workplace, *, clock: Clock, is_again: bool) -> None:
    """Note that the agent begins. `is_again`: it is not known whether it was noted before, so the run is read anew."""
    run = claiming.reload_run(place.run.pk) if is_again else place.run
    if run.status != RunStatus.RUNNING:
        runs.begin_running(run, base_commit=place.base_commit, working_dir=str(place.clone), now=clock())


def _conclude(place: Workplace, end: SessionEnd, stop: Stop, *, clock: Clock, expect: Callable[[Run], None]) -> None:
    run = reload_run(place.run.pk)
    if not run.is_active:
        return
    match end.reason:
        case "finished" if run.task.status == TaskStatus.CANCELLED:
            raise _Unwanted
        case "finished" if run.outcome["verb"] in outcomes.DELIVERING:
            expect(run)
            evaluate(replace(place, run=run), clock=clock, check=lambda: _check(stop))
        case "finished" if faults.is_excused(run):
            _fault(run, run.outcome["args"]["reason"], stop, clock=clock)
        case "finished":
            _keep_work(run, clock=clock)
            outcomes.settle(run, now=clock())
        case "no_outcome" if not run.stop_requested and faults.was_unanswered(run):
            _fault(run, "The platform did not answer when the agent handed in.", stop, clock=clock)
        case reason:
            _keep_work(run, clock=clock, resumes=(run.stop_requested or reason) in _HANDED_OVER)
            # A refusal by the gateway (budget, turns) reaches the CLI as an error of the model: the row knows better.
            _fail(run, run.stop_requested or reason, end.detail, stop, clock=clock)


def _keep_work(run: Run, *, clock: Clock, resumes: bool = False) -> None:
    """Save what an unfinished run made. Nobody waits for it, so it may fail: its clone stays until it is saved."""
    try:
        teardown.confirm(run.pk, now=clock(), resumes=resumes)
    except (WorkspaceError, OSError) as error:
        logger.warning("the work of run %s could not be saved: %s", run.pk, error)


def _keep_now(run_id: UUID, stop: Stop, *, clock: Clock) -> None:
    """Keep the work of a run in the middle of it. Nothing depends on it, so it may fail."""
    run = Run.objects.select_related("task").filter(pk=run_id, status=RunStatus.RUNNING).first()
    if run is None or _is_lost(stop):
        return
    try:
        checkpoints.keep_meanwhile(run, by=runs.SUPERVISOR, now=clock())
    except (WorkspaceError, OSError) as error:
        logger.warning("no checkpoint of run %s could be made: %s", run_id, error)


def _fault(run: Run, detail: str, stop: Stop, *, clock: Clock) -> None:
    """End a run that the platform failed. What its agent made, handed in or not, the next run goes on from."""
    _check_lease(stop)
    run = reload_run(run.pk)
    if run.is_active:
        _, counts = faults.delay_of(run)
        try:
            checkpoints.keep(run, by=runs.SUPERVISOR, now=clock(), resumes=not counts)
        except (WorkspaceError, OSError) as error:
            logger.warning("the work of run %s could not be saved: %s", run.pk, error)
        _fail(run, faults.PLATFORM_ERROR, detail, stop, clock=clock)


def _fail(run: Run, reason: str, detail: str, stop: Stop, *, clock: Clock) -> None:
    """End a run that led to nothing, unless it has ended or is not ours any more."""
    _check_lease(stop)
    run = reload_run(run.pk)
    if not run.is_active:
        return
    if run.task.status == TaskStatus.CANCELLED:
        reason = CANCELLED
    if reason in {OVER_BUDGET, RUN_BUDGET}:
        detail = money.explain(run)
    detail = _SENTENCES.get(reason) or detail or reason
    counts = reason not in _NOT_COUNTED or (reason == WORKER_GONE and recovery.is_often_lost(run))
    delay = None if counts else timedelta(0)
    if reason == faults.PLATFORM_ERROR:
        delay, counts = faults.delay_of(run)
    if outages.is_outage(run, reason):
        reason, detail = outages.MODEL_OUTAGE, outages.sentence(run, detail)
        delay, counts = outages.delay_of(run)
        outages.tell(run, detail, by=runs.SUPERVISOR, now=clock())
    ending = Ending(
        _STATUS.get(reason, RunStatus.FAILED),
        reason,
        detail,
        {"failure": {"reason": reason, "detail": detail[-4_000:]}} if counts else {},
        counts=counts,
        delay=delay,
        resumes=reason != REASSIGNED,  # what another role wrote may be what this one may not
    )
    money.fail(run, ending, by=runs.SUPERVISOR, now=clock())


def _is_lost(stop: Stop) -> bool:
    return stop.reason == LEASE_LOST


def _check_lease(stop: Stop) -> None:
    if _is_lost(stop):
        raise LeaseLost


def _check(stop: Stop) -> None:
    _check_lease(stop)
    if stop.reason == CANCELLED:
        raise _Unwanted


def _progress(place: Workplace) -> Progress:
    """Return what watches a run for circles, and, where its role writes files, for standing still."""
    # Requirements, plans and advice are handed in by a verb, not as files.
    # What a remote worker writes is not here before the end.
    is_here = not isinstance(place.runtime, RemoteRuntime)
    is_building = place.run.task.kind in {TaskKind.DEMO, TaskKind.BUILD, TaskKind.CONFLICT}
    is_writing = is_here and is_building and bool(policy_of(place.run).writable)
    return Progress(
        calls=settings.EKLAVYA_LOOP_CALLS,
        no_diff=timedelta(minutes=settings.EKLAVYA_NO_DIFF_MINUTES),
        look=partial(digest_of_files, place.clone) if is_writing else None,
    )


def _limits(run: Run) -> Limits:
    of = limits_of_run(run)
    return Limits(wall_s=of.minutes * MINUTE_S, stall_s=float(settings.EKLAVYA_STALL_SECONDS), turns=of.turns)
