"""Taking runs that were given to this worker: held at once, so that their programs can start, and claimed meanwhile."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from uuid import UUID

from agents.actions import leases
from agents.actions.dispatch import AT_ONCE
from agents.actions.leases import Held
from agents.errors import LeaseLost
from agents.models import Run
from agents.prompts import prompt_version_for
from agents.states import RunStatus
from agents.supervisor.together import Together

Clock = Callable[[], datetime]
_WHOLE = ("task__project", "project", "agent__member", "worker")


def hold_all(run_ids: Sequence[UUID], *, owner: str, clock: Clock) -> list[Held]:
    """Put the first leases on queued runs, and return those that are held now: others have the rest, or it is gone."""
    held: list[Held] = []
    for number in range(0, len(run_ids), AT_ONCE):
        found = Run.objects.select_related(*_WHOLE).filter(pk__in=run_ids[number : number + AT_ONCE])
        queued = [run for run in found if run.status == RunStatus.QUEUED]
        version_for = cache(lambda role, pinned: prompt_version_for(role, pinned=pinned))
        for run in queued:
            run.prompt_version_id = run.prompt_version_id or version_for(run.task.role, run.prompt_version_id)
        held += leases.hold_runs(queued, owner=owner, now=clock())
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
        leases.claim_run(run, now=clock())
    return run


def reload_run(run_id: UUID) -> Run:
    """Read a run again with all that belongs to it: a transaction that was rolled back leaves the objects as they
    would have been. Raises LeaseLost when it is gone, with its project or with what would have made it."""
    found = Run.objects.select_related(*_WHOLE).filter(pk=run_id).first()
    if found is None:
        raise LeaseLost
    return found


def _claim(asked: Sequence[tuple[Run, datetime]]) -> list[bool]:
    if len(asked) == 1:
        ((run, now),) = asked
        leases.claim_run(run, now=now)
        return [True]
    begun = {run.pk for run in leases.claim_runs([run for run, _ in asked], now=max(now for _, now in asked))}
    return [run.pk in begun for run, _ in asked]


_claims = Together(_claim, most=AT_ONCE)
