"""Taking runs that were given to this worker: held at once, so that their programs can start, and claimed meanwhile."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from uuid import UUID

from django.db.models import QuerySet

from agents.actions import leases
from agents.actions.dispatch import AT_ONCE
from agents.actions.leases import Held
from agents.errors import LeaseLost
from agents.models import Run
from agents.prompts import prompt_version_for
from agents.states import RunStatus
from agents.supervisor.connections import AWAY
from agents.supervisor.together import Together

logger = logging.getLogger(__name__)
Clock = Callable[[], datetime]
# From so many on, reading what they share apart is worth its statements.
_MANY = 12
_WHOLE = ("task__project", "project", "agent__member", "worker")


def hold_all(run_ids: Sequence[UUID], *, owner: str, clock: Clock) -> list[Held]:
    """Put the first leases on queued runs, and return those that are held now: others have the rest, or it is gone.

    What is held when the database goes away is returned too: nobody else would do it before its lease ran out.
    """
    held: list[Held] = []
    for number in range(0, len(run_ids), AT_ONCE):
        try:
            _hold(run_ids[number : number + AT_ONCE], held, owner=owner, clock=clock)
        except AWAY:
            if not held:
                raise
            logger.warning("of runs %s only %s could be held", run_ids, [one.run.pk for one in held])
            break
    return held


def _hold(run_ids: Sequence[UUID], held: list[Held], *, owner: str, clock: Clock) -> None:
    """Add to `held` what is held: at once, so that none is forgotten where the database goes away in between."""
    queued = [run for run in _runs(run_ids) if run.status == RunStatus.QUEUED]
    version_for = cache(lambda role, pinned: prompt_version_for(role, pinned=pinned))
    for run in queued:
        run.prompt_version_id = run.prompt_version_id or version_for(run.task.role, run.prompt_version_id)
    held += leases.hold_runs(queued, owner=owner, now=clock())
    for run in leases.unheld(queued):  # somebody had them for a moment
        with suppress(LeaseLost):
            token = leases.hold_run(run, owner=owner, prompt_version_id=run.prompt_version_id, now=clock())
            held.append(Held(run, token))


def _runs(run_ids: Sequence[UUID]) -> QuerySet[Run]:
    """Find runs with all that belongs to them: at once for a few, and else what many share, as a project, only once."""
    runs = Run.objects.filter(pk__in=run_ids)
    if len(run_ids) < _MANY:
        return runs.select_related(*_WHOLE)
    return runs.select_related("task", "agent").prefetch_related(*_WHOLE)


def claim(held: Run, *, clock: Clock, is_again: bool = False) -> Run:
    """Claim a run that we hold, together with those that are claimed in this moment, and return it.

    `is_again`: it is not known whether it was claimed before, so it is read anew. Raises LeaseLost when it is not ours
    any more.
    """
    if not is_again and _claims.ask((held, clock())):
        return held
    run = reload_run(held.pk)  # as it is after what was rolled back
    if (run.token_hash, run.lease_owner) != (held.token_hash, held.lease_owner):
        raise LeaseLost
    if run.status != RunStatus.STARTING:
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
    """Whoever is left out, or was with one that cannot be claimed, claims its run alone: there it may wait, or fail."""
    try:
        begun = leases.claim_runs([run for run, _ in asked], now=max(now for _, now in asked))
    except Exception as error:
        logger.info("%s runs are claimed one by one: %s", len(asked), error)
        return [False] * len(asked)
    keys = {run.pk for run in begun}
    return [run.pk in keys for run, _ in asked]


_claims = Together(_claim, most=AT_ONCE)
