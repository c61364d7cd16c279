"""Who works on a run: its lease is taken with a token, the run is claimed, and the lease renewed.

A run without a lease is anybody's who is given it; one with a lease is its owner's alone, until it runs out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction

from agents.actions import messages
from agents.actions.runs import SUPERVISOR
from agents.errors import LeaseLost
from agents.models import Agent, Run
from agents.states import ACTIVE_RUN, RUN_TRANSITIONS, RunStatus
from agents.tokens import hash_token, new_token
from projects import audit
from projects.actions import tasks
from projects.bulk import update_each
from projects.models import Task
from projects.secrets import model_mode, rehearsing
from projects.states import TaskStatus
from projects.transitions import step_all

_FREE = {"status": RunStatus.QUEUED, "lease_owner": ""}


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


def lease(run: Run, *, owner: str, now: datetime, token: str = "") -> str:
    """Give a run that is being made its first lease, and return its token: a fresh one unless given. Saves nothing."""
    run.rehearsal = model_mode(run.project_id) == "rehearsal"
    return _lease_to(run, owner, token or new_token(), now=now)


def _lease_to(run: Run, owner: str, token: str, *, now: datetime) -> str:
    run.lease_owner, run.lease_until, run.token_hash = owner, _lease(now), hash_token(token)
    return token


def hold_run(run: Run, *, owner: str, prompt_version_id: UUID | None, now: datetime) -> str:
    """Put the first lease on a queued run and return its fresh token. Raises LeaseLost when somebody else has it.

    A message that is delivered twice ends here: the second finds the run held. One short statement, so that the CLI can
    start while the run is being claimed. A hold that nobody follows up runs out like any lease.
    """
    run.prompt_version_id = run.prompt_version_id or prompt_version_id
    held = _hold([run], owner=owner, now=now)
    if not held:
        raise LeaseLost
    return held[0].token


def hold_runs(queued: Sequence[Run], *, owner: str, now: datetime) -> list[Held]:
    """Put the first leases on queued runs, with the prompt versions that they name; return those that are held now.

    Left out are those that others have, and those whose rows somebody has just now (`unheld`): whoever locks many must
    not wait for any.
    """
    with transaction.atomic():
        rows = Run.objects.select_for_update(skip_locked=True, of=("self",)).filter(**_FREE)
        free = set(rows.filter(pk__in=[run.pk for run in queued]).values_list("pk", flat=True))
        return _hold([run for run in queued if run.pk in free], owner=owner, now=now)


def unheld(queued: Sequence[Run]) -> list[Run]:
    """Return those of the runs that nobody holds, though they were there to be held."""
    free = Run.objects.filter(pk__in=[run.pk for run in queued], **_FREE).values_list("pk", flat=True)
    return [run for run in queued if run.pk in set(free)]


def _hold(queued: Sequence[Run], *, owner: str, now: datetime) -> list[Held]:
    rehearsed = rehearsing({run.project_id for run in queued})
    for run in queued:
        run.rehearsal = run.project_id in rehearsed
    tokens = {run.pk: _lease_to(run, owner, new_token(), now=now) for run in queued}
    own = {name: [getattr(run, name) for run in queued] for name in ("token_hash", "rehearsal", "prompt_version_id")}
    held = update_each(Run, [*tokens], each=own, where=_FREE, lease_owner=owner, lease_until=_lease(now))
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


def _lease(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.EKLAVYA_LEASE_SECONDS)
