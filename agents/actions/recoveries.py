"""Whether a task goes on by itself after its run got nowhere. Plain code decides, once per run, and says why in a row.

A run that was stalled, went in circles or stood still is tried again once for each fingerprint of its failure. A run
that is itself such a second try is never recovered: a person is asked. Caps per task and account hold a wave of
failures. Every way to end badly after which a task goes on by itself (`agents.endings`) has a switch: admins set it
while the house runs (`RecoverySettings`), below what the environment allows (EKLAVYA_RECOVER and its caps).
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from agents.endings import SWITCHES
from agents.errors import UnknownSwitch
from agents.models import Recovery, RecoverySettings, Run
from projects import audit
from projects.actions.settings import change_row
from projects.actors import Actor
from projects.ids import new_id

RECOVERER = Actor.system("recovery")
STALLED, LOOPING, NO_DIFF, SILENT = "stalled", "looping", "no_diff", "supervisor_silent"
REASONS = frozenset({STALLED, LOOPING, NO_DIFF, SILENT})
HOUR = timedelta(hours=1)
# Any constant: the id of the advisory lock that lets one decision count at a time.
_LOCK_ID = 0x656B_7263
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class InForce:
    """What holds now. `by_environment` are the reasons that nobody can switch on here."""

    switched_off: frozenset[str]
    by_environment: frozenset[str]
    per_task: int
    per_hour: int


def in_force() -> InForce:
    """Return which ways have a person asked, and the caps: of the row and the environment, whichever allows less."""
    row = RecoverySettings.objects.first() or RecoverySettings()
    ceiling = REASONS - set(settings.EKLAVYA_RECOVER)
    return InForce(
        switched_off=ceiling | (set(row.switched_off) & SWITCHES),
        by_environment=ceiling,
        per_task=_least(row.per_task, settings.EKLAVYA_RECOVERIES_PER_TASK),
        per_hour=_least(row.per_hour, settings.EKLAVYA_RECOVERIES_PER_HOUR),
    )


def _least(chosen: int | None, most: int) -> int:
    return most if chosen is None else min(chosen, most)


def is_off(reason: str) -> bool:
    """Whether a person is asked after a run that ended so, instead of trying its task again."""
    return reason in SWITCHES and reason in in_force().switched_off


def switch(reason: str, *, on: bool, by: Actor, now: datetime) -> None:
    """Have tasks go on by themselves after this reason, or a person asked. From the next run that ends so.

    Raises UnknownSwitch for a reason without a switch, and for one that the environment keeps off.
    """
    if reason not in SWITCHES:
        raise UnknownSwitch(f"“{reason[:60]}” has no switch. Choose one of the page's.")
    if on and reason in in_force().by_environment:
        raise UnknownSwitch("EKLAVYA_RECOVER leaves it out: the environment keeps it off.")
    with audit.journal(by=by, now=now):
        row = _locked_row()
        off = set(row.switched_off) - {reason} if on else {*row.switched_off, reason}
        change_row(row, {"switched_off": sorted(off)}, by=by, now=now)


def set_caps(per_task: int | None, per_hour: int | None, *, by: Actor, now: datetime) -> None:
    """Set how many second tries there are at most; None leaves it to the environment, which is the ceiling."""
    with audit.journal(by=by, now=now):
        change_row(_locked_row(), {"per_task": per_task, "per_hour": per_hour}, by=by, now=now)


def _locked_row() -> RecoverySettings:
    RecoverySettings.objects.bulk_create([RecoverySettings()], ignore_conflicts=True)
    return RecoverySettings.objects.select_for_update().get(pk=1)


def fingerprint_of(reason: str, detail: str) -> str:
    """Return what equal failures have in common: their cause, and what was said of it but for the numbers."""
    return hashlib.sha256(f"{reason}\n{_NUMBERS.sub('#', detail)}".encode()).hexdigest()


def decide(run: Run, reason: str, detail: str, *, now: datetime) -> bool:
    """Decide whether the task of a run that failed for one of REASONS is tried again by itself; else a person is asked.

    Idempotent: the decision about a run stays.
    """
    fingerprint = fingerprint_of(reason, detail)
    with audit.journal(by=RECOVERER, now=now) as journal:
        # The run before the lock of all decisions, as the sweep has it: the row below refers to it, and waits for it.
        Run.objects.select_for_update().get(pk=run.pk)
        known = Recovery.objects.filter(run=run).first()
        if known is not None:
            return known.decision == Recovery.Decision.RETRY
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_ID])
        decision = _decision(run, reason, fingerprint, now)
        row = Recovery.objects.create(
            id=new_id(),
            project=run.project,
            task=run.task,
            run=run,
            reason=reason,
            fingerprint=fingerprint,
            decision=decision,
            created_at=now,
        )
        details = {"run": run.pk, "reason": reason, "fingerprint": fingerprint[:16], "decision": decision.value}
        journal.add("recovery.decided", project_id=run.project_id, agent_id=run.agent_id, obj=row, details=details)
    return decision == Recovery.Decision.RETRY


def _decision(run: Run, reason: str, fingerprint: str, now: datetime) -> Recovery.Decision:
    of = Recovery.Decision
    chosen = in_force()
    if reason in chosen.switched_off:
        return of.SWITCHED_OFF
    retries = Recovery.objects.filter(decision=of.RETRY)
    of_task = retries.filter(task=run.task)
    if of_task.filter(run__attempt=run.attempt - 1).exists():
        return of.RECOVERY_ITSELF
    if of_task.filter(fingerprint=fingerprint).exists():
        return of.SAME_AGAIN
    if of_task.count() >= chosen.per_task:
        return of.TASK_CAP
    if retries.filter(created_at__gt=now - HOUR).count() >= chosen.per_hour:
        return of.ACCOUNT_CAP
    return of.RETRY
