"""Supervising one run, from the claim to the end. Everything that decides is read from rows; this only takes the steps.

The caller is a Celery task, but the message that started it was only a hint: whoever does not get the claim goes home.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from agents.actions import outcomes, runs
from agents.actions.runs import Ending
from agents.errors import LeaseLost
from agents.models import Run
from agents.prompts import prompt_for
from agents.runtimes.contract import Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.states import RunStatus
from agents.supervisor import workplace
from agents.supervisor.evaluate import evaluate
from agents.supervisor.keeper import LEASE_LOST, WORKER_STOPPING, LeaseKeeper, Stop
from agents.supervisor.session import Limits, SessionEnd, drive
from agents.supervisor.workplace import Workplace
from agents.workspace.errors import WorkspaceError
from projects.roles import Role

logger = logging.getLogger(__name__)
Clock = Callable[[], datetime]

# Ends that are not the agent's doing: the task is tried again without using up an attempt.
_NOT_COUNTED = frozenset({WORKER_STOPPING, "paused", "cancelled", "over_budget"})
_STATUS = {
    "over_budget": RunStatus.OVER_BUDGET,
    "run_budget": RunStatus.OVER_BUDGET,
    "cancelled": RunStatus.CANCELLED,
    "paused": RunStatus.CANCELLED,
    WORKER_STOPPING: RunStatus.CANCELLED,
}


def supervise(run_id: UUID, *, keeper: LeaseKeeper, runtime: Runtime, clock: Clock) -> None:
    """Do a run, and leave a truthful end of it. Returns at once when the run is somebody else's."""
    try:
        run = Run.objects.select_related("task").get(pk=run_id)
        prompt = prompt_for(Role(run.task.role), run.prompt_version_id)
        run, token = runs.claim_run(run_id, owner=keeper.owner, prompt_version_id=prompt.version_id, now=clock())
    except (LeaseLost, Run.DoesNotExist):
        logger.info("run %s is not for us", run_id)
        return
    with keeper.hold(run.pk) as stop:
        try:
            _work(run, token, stop, runtime=runtime, clock=clock)
        except LeaseLost:
            # Somebody else already wrote how it ended; only what runs here is ours to clear away.
            logger.warning("the lease of run %s was lost", run.pk)
        except (RuntimeProblem, WorkspaceError) as error:
            logger.exception("run %s failed on the platform's side", run.pk)
            _fail(run, "platform_error", str(error), stop, clock=clock)
        finally:
            workplace.remove(run, runtime)


def _work(run: Run, token: str, stop: Stop, *, runtime: Runtime, clock: Clock) -> None:
    place = workplace.prepare(run, token, runtime)
    options = workplace.options_for(place)
    _check_lease(stop)
    runs.begin_running(run, base_commit=place.base_commit, pid=None, working_dir=str(place.clone), now=clock())
    end = asyncio.run(drive(run, options, limits=_limits(run), stop=stop, clock=clock))
    # Whatever the conversation's end was, from here on nothing of the agent runs.
    runtime.kill(place.spec.name)
    _check_lease(stop)
    _conclude(place, end, stop, clock=clock)


def _conclude(place: Workplace, end: SessionEnd, stop: Stop, *, clock: Clock) -> None:
    run = place.run
    run.refresh_from_db(fields=["outcome", "stop_requested", "turns", "cost"])
    match end.reason:
        case "finished" if run.outcome["verb"] in outcomes.DELIVERING:
            evaluate(place, clock=clock, check_lease=lambda: _check_lease(stop))
        case "finished":
            outcomes.settle(run, now=clock())
        case reason:
            # A refusal by the gateway (budget, turns) reaches the CLI as an error of the model: the row knows better.
            _fail(run, run.stop_requested or reason, end.detail, stop, clock=clock)


def _fail(run: Run, reason: str, detail: str, stop: Stop, *, clock: Clock) -> None:
    if stop.reason == LEASE_LOST:
        return
    run.refresh_from_db(fields=["status"])
    if not run.is_active:
        return
    ending = Ending(
        _STATUS.get(reason, RunStatus.FAILED),
        reason,
        detail or reason,
        {"failure": {"reason": reason, "detail": detail[-4_000:]}},
        counts=reason not in _NOT_COUNTED,
        delay=timedelta(0) if reason in _NOT_COUNTED else None,
    )
    run.task.refresh_from_db()
    runs.fail(run, ending, now=clock())


def _check_lease(stop: Stop) -> None:
    if stop.reason == LEASE_LOST:
        raise LeaseLost


def _limits(run: Run) -> Limits:
    member = run.agent.member
    assert member is not None, "an agent outlives its squad only in a deleted project"
    return Limits(
        wall_s=member.max_minutes * 60.0, stall_s=float(settings.EKLAVYA_STALL_SECONDS), turns=member.max_turns
    )
