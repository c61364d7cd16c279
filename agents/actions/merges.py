"""The merge queue of a project, as rows: who waits, who leads, what was asked and answered (docs/adr/0011).

Each supervisor writes its own entry; the leading one those of its batch. Whoever holds its run is alive, and nobody
else counts: entries of runs that are lost are cleared away by the next who leads.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from agents.models import MergeEntry, Run
from agents.states import RunStatus
from projects import audit
from projects.actors import Actor

SUPERVISOR = Actor.system("supervisor")
Stage = MergeEntry.Stage
_HAS_CHANGE = [RunStatus.EVALUATING.value, RunStatus.MERGING.value]
# Against the sweep, which locks a lost run in full, and not against whoever renews its lease.
_KEEP = """
SELECT id FROM agents_run WHERE id = ANY(%s::uuid[]) AND status = ANY(%s) AND lease_until > %s
ORDER BY id FOR KEY SHARE
"""


class LeadLost(Exception):
    """Another supervisor leads the project's batch now: this one's run is not held any more."""


class NotTogether(Exception):
    """One of those that were to land together is not there any more."""


def enter(run: Run, *, now: datetime) -> None:
    """Put a run's change into its project's queue, or back to its end after a step that broke off."""
    with transaction.atomic():
        MergeEntry.objects.filter(run=run).delete()
        MergeEntry.objects.create(project_id=run.project_id, run=run, created_at=now)


def leave(run: Run) -> None:
    """Take a run's change out, whatever was asked of it: who leads sees that it is gone."""
    MergeEntry.objects.filter(run=run).delete()


def look(run: Run) -> MergeEntry | None:
    """Return how far a run's change is; nothing when another that leads took the run for lost."""
    return MergeEntry.objects.filter(run=run).first()


def lead(run: Run, *, now: datetime) -> bool:
    """Have a waiting run's supervisor lead, unless one that is alive does. Return whether it leads now."""
    if MergeEntry.objects.filter(_alive(now), project=run.project_id, is_leading=True).exclude(run=run).exists():
        return False
    with audit.journal(by=SUPERVISOR, now=now) as journal:
        entries = _locked(run)
        # Read after the locks: a lease that was renewed meanwhile counts.
        alive = set(entries.filter(_alive(now)).values_list("run_id", flat=True))
        gone = [entry for entry in entries.all() if entry.run_id not in alive]
        if run.pk not in alive or entries.filter(is_leading=True, run__in=alive - {run.pk}).exists():
            return False
        for entry in gone:
            details = {"run": entry.run_id, "was_leading": entry.is_leading, "by_run": run.pk}
            journal.add("merge.taken_up", project_id=run.project_id, obj=entry, details=details)
        entries.filter(pk__in=[entry.pk for entry in gone]).delete()
        entries.filter(run=run).update(is_leading=True)
    return True


def stop_leading(run: Run, *, leaves: bool = False) -> None:
    """Let another lead, and take the run's own change out if it `leaves`.

    Those of whom nothing is known yet wait again, but for the confirmed: whether main has them the next one finds out.
    """
    with transaction.atomic():
        entries = _locked(run)
        if not entries.filter(run=run, is_leading=True).exists():
            return
        entries.filter(stage=Stage.ASKED).update(stage=Stage.WAITING, commit="", told={})
        entries.filter(run=run).update(is_leading=False)
        if leaves:
            entries.filter(run=run).delete()


def batch_of(run: Run, *, most: int, now: datetime) -> list[MergeEntry]:
    """Return the changes that the leader looks at together, its own among them, in the order in which they came."""
    entries = MergeEntry.objects.filter(_alive(now), project=run.project_id, stage__in=[Stage.WAITING, Stage.CONFIRMED])
    found = entries.select_related("run__task", "run__agent").order_by("pk")
    chosen = sorted(found, key=lambda entry: (entry.run_id != run.pk, entry.pk))[:most]
    return sorted(chosen, key=lambda entry: entry.pk)


def ask(leader: Run, commits: Mapping[UUID, str], seen: dict[str, Any]) -> None:
    """Ask the supervisors of runs to write down where their changes lead. Raises LeadLost."""
    with transaction.atomic():
        entries = _led(leader)
        for run_id, commit in commits.items():
            # One that was confirmed before, and did not get into main then, is asked anew.
            entries.filter(run=run_id).update(stage=Stage.ASKED, commit=commit, told=seen)


def confirm(run: Run, commit: str) -> bool:
    """Answer what was asked. Return False when something else is asked by now."""
    asked = MergeEntry.objects.filter(run=run, stage=Stage.ASKED, commit=commit)
    return bool(asked.update(stage=Stage.CONFIRMED))


def answers(runs: Sequence[UUID], *, now: datetime) -> dict[UUID, str]:
    """Return the stage of each of these that is still there, its run alive."""
    return dict(MergeEntry.objects.filter(_alive(now), run__in=runs).values_list("run_id", "stage"))


def advance(leader: Run, commits: Mapping[UUID, str], move: Callable[[], None], *, now: datetime) -> None:
    """Move main, while nobody can take any of these runs, or the lead, away.

    `move` takes milliseconds and is called under the locks: a leader that was too slow must not move main after
    another has found that it did not. Raises LeadLost, NotTogether, and what `move` raises.
    """
    with transaction.atomic():
        entries = _led(leader)
        with connection.cursor() as cursor:
            cursor.execute(_KEEP, [sorted({leader.pk, *commits}), _HAS_CHANGE, now])
            kept = {run_id for (run_id,) in cursor.fetchall()}
        if leader.pk not in kept:
            raise LeadLost
        confirmed = entries.filter(run__in=kept, stage=Stage.CONFIRMED).values_list("run_id", "commit")
        if dict(confirmed) != dict(commits):
            raise NotTogether
        move()


def tell(leader: Run, outcomes: Mapping[UUID, tuple[bool, str, dict[str, Any]]]) -> None:
    """Tell the supervisors of runs what became of their changes: whether it landed, its commit, and the rest."""
    with transaction.atomic():
        entries = _led(leader)
        for run_id, (has_landed, commit, told) in outcomes.items():
            stage = Stage.LANDED if has_landed else Stage.REFUSED
            entries.filter(run=run_id).update(stage=stage, commit=commit, told=told)


def _alive(now: datetime) -> Q:
    return Q(run__status__in=_HAS_CHANGE, run__lease_until__gt=now)


def _locked(run: Run) -> QuerySet[MergeEntry]:
    """Lock the entries of a run's project, in one order, and return them to be read anew."""
    entries = MergeEntry.objects.filter(project=run.project_id)
    list(entries.select_for_update().order_by("pk").values_list("pk", flat=True))
    return entries


def _led(leader: Run) -> QuerySet[MergeEntry]:
    """As `_locked`, for the one that leads. Raises LeadLost."""
    entries = _locked(leader)
    if not entries.filter(run=leader, is_leading=True).exists():
        raise LeadLost
    return entries
