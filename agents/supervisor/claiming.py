"""Taking a run that was given to this worker: held at once, so that its program can start, and claimed meanwhile."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from uuid import UUID

from agents.actions import runs
from agents.actions.dispatch import AT_ONCE
from agents.actions.runs import Held
from agents.errors import LeaseLost
from agents.models import Run
from agents.prompts import prompt_version_for
from agents.states import RunStatus
from agents.supervisor.together import Together

Clock = Callable[[], datetime]
_WHOLE = ("task__project", "project", "agent__member")


def hold(run_id: UUID, *, owner: str, clock: Clock) -> Held:
    """Put the first lease on a queued run, together with those that are held in this moment.

    Raises LeaseLost when it is somebody else's, or gone.
    """
    held = _holds.ask((run_id, owner, clock()))
    if held is None:
        raise LeaseLost
    return held


def claim(held: Run, *, clock: Clock, is_again: bool = False) -> Run:
    """Claim a run that we hold, together with those that are claimed in this moment, and return it.

    `is_again`: it is not known whether it was claimed before, so it is read anew. Raises LeaseLost when it is not ours
    any more.
    """
    run = reload_run(held.pk) if is_again else held
    if run.token_hash != held.token_hash:
        raise LeaseLost
    if run.status != RunStatus.STARTING and not _claims.ask((run, clock())):
        runs.claim_run(run, now=clock())
    return run


def reload_run(run_id: UUID) -> Run:
    """Read a run again with all that belongs to it: a transaction that was rolled back leaves the objects as they
    would have been. Raises LeaseLost when it is gone, with its project or with what would have made it."""
    found = Run.objects.select_related(*_WHOLE).filter(pk=run_id).first()
    if found is None:
        raise LeaseLost
    return found


def _hold(asked: Sequence[tuple[UUID, str, datetime]]) -> list[Held | None]:
    found = Run.objects.select_related(*_WHOLE).filter(pk__in=[run_id for run_id, *_ in asked])
    queued = {run.pk: run for run in found if run.status == RunStatus.QUEUED}
    version_for = cache(lambda role, pinned: prompt_version_for(role, pinned=pinned))
    for run in queued.values():
        run.prompt_version_id = run.prompt_version_id or version_for(run.task.role, run.prompt_version_id)
    held: dict[tuple[UUID, str], Held] = {}
    now = max(now for *_, now in asked)
    for by in {owner for _, owner, _ in asked}:  # of one process there is one
        wanted = {run_id for run_id, owner, _ in asked if owner == by}
        some = runs.hold_runs([queued.pop(pk) for pk in wanted & queued.keys()], owner=by, now=now)
        held |= {(one.run.pk, by): one for one in some}
    return [held.pop((run_id, owner), None) for run_id, owner, _ in asked]


def _claim(asked: Sequence[tuple[Run, datetime]]) -> list[bool]:
    if len(asked) == 1:
        ((run, now),) = asked
        runs.claim_run(run, now=now)
        return [True]
    begun = {run.pk for run in runs.claim_runs([run for run, _ in asked], now=max(now for _, now in asked))}
    return [run.pk in begun for run, _ in asked]


_holds = Together(_hold, most=AT_ONCE)
_claims = Together(_claim, most=AT_ONCE)
