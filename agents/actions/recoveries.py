"""Whether a task goes on by itself after its run failed. Plain code decides, once per run, and says why in a row.

Each way to end badly after which the platform starts a task anew (`agents.endings`, those with a switch) is a failure
with a fingerprint, and what is done about it is a recovery: one for each fingerprint of a task. What fails equally
again is not tried a second time for it: a person is asked. Only what was nobody's fault, a machine or a model that is
away, goes on being waited for, later each time, as the one recovery that it is, and so often at most as the table
says. A run that got nowhere (REASONS) and was itself such a second try is never recovered. Caps per task and account
hold a wave of failures. Admins switch each way off while the house runs (`RecoverySettings`), below what the
environment allows.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from agents.endings import SWITCHES, WAYS, Remedy
from agents.errors import UnknownSwitch
from agents.models import Recovery, RecoverySettings, Run
from projects import audit
from projects.actions.settings import change_row
from projects.actors import Actor
from projects.ids import new_id
from projects.states import OPEN_APPROVAL, ApprovalKind

RECOVERER = Actor.system("recovery")
STALLED, LOOPING, NO_DIFF, SILENT = "stalled", "looping", "no_diff", "supervisor_silent"
REASONS = frozenset({STALLED, LOOPING, NO_DIFF, SILENT})
GOES_ON = frozenset({None, Recovery.Decision.RETRY, Recovery.Decision.CONTINUED})
HOUR = timedelta(hours=1)
# Any constant: the id of the advisory lock that lets one decision count at a time.
_LOCK_ID = 0x656B_7263
# What differs from one failure to an equal one: ids, addresses in memory, times, ports, counts.
_VARIES = re.compile(
    r"\b0x[0-9a-f]+\b|\b(?=[a-f-]{0,64}\d)[0-9a-f]{8}[0-9a-f-]{0,64}\b|\d+(?:[.,:]\d+)*", re.IGNORECASE
)


@dataclass(frozen=True)
class InForce:
    """What holds now. `by_environment` are the reasons that nobody can switch on here."""

    switched_off: frozenset[str]
    by_environment: frozenset[str]
    per_task: int
    per_hour: int
    restarts_per_hour: int


def in_force() -> InForce:
    """Return which ways have a person asked, and the caps: of the row and the environment, whichever allows less."""
    row = RecoverySettings.objects.first() or RecoverySettings()
    ceiling = REASONS - set(settings.EKLAVYA_RECOVER)
    return InForce(
        switched_off=ceiling | (set(row.switched_off) & SWITCHES),
        by_environment=ceiling,
        per_task=_least(row.per_task, settings.EKLAVYA_RECOVERIES_PER_TASK),
        per_hour=_least(row.per_hour, settings.EKLAVYA_RECOVERIES_PER_HOUR),
        restarts_per_hour=settings.EKLAVYA_RESTARTS_PER_HOUR,
    )


def _least(chosen: int | None, most: int) -> int:
    return most if chosen is None else min(chosen, most)


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


def fingerprint_of(reason: str, detail: str, what: str = "") -> str:
    """Return what equal failures of a task have in common: their cause, what was said of it but for what varies, and
    exactly `what` failed, where that is known."""
    return hashlib.sha256(f"{reason}\n{_VARIES.sub('#', detail)}\n{what}".encode()).hexdigest()


def decide(
    run: Run, reason: str, detail: str, *, what: str = "", counts: bool = True, now: datetime
) -> Recovery.Decision | None:
    """Decide whether the task of a run that failed is tried again by itself (`GOES_ON`); else a person is asked.

    `what` failed, such as which process of which machine: another one's failure is not equal. `counts` says whether it
    costs the task an attempt. None where nothing failed: people wanted it so, or a worker was stopped. Idempotent: the
    decision about a run stays.
    """
    way = WAYS.get(reason)
    if way is not None and not way.has_switch:
        return None
    remedy = way.remedy if way else Remedy.ATTEMPT
    remedy = Remedy.FREE if remedy is Remedy.CONFLICT else remedy
    if remedy is Remedy.FREE and counts:
        # It happened too often to be nobody's fault: a failure of another kind, with one try that costs an attempt.
        remedy, what = Remedy.ATTEMPT, "too often"
    fingerprint = fingerprint_of(reason, detail, f"{what} {_answers(run)}")
    with audit.journal(by=RECOVERER, now=now) as journal:
        # The run before the lock of all decisions, as the sweep has it: the row below refers to it, and waits for it.
        Run.objects.select_for_update().get(pk=run.pk)
        known = Recovery.objects.filter(run=run).first()
        if known is not None:
            return Recovery.Decision(known.decision)
        decision = _decision(run, reason, remedy, fingerprint, now)
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
    return decision


def _answers(run: Run) -> int:
    """Return how often people were asked about a run's task, and answered: from each time on, failures count afresh."""
    asked = run.task.approvals.filter(kind=ApprovalKind.BLOCKED_TASK)
    return int(asked.exclude(status__in=OPEN_APPROVAL).count())


def _decision(run: Run, reason: str, remedy: Remedy, fingerprint: str, now: datetime) -> Recovery.Decision:
    of = Recovery.Decision
    chosen = in_force()
    if reason in chosen.switched_off:
        return of.SWITCHED_OFF
    retries = Recovery.objects.filter(decision=of.RETRY)
    is_known = retries.filter(task=run.task, fingerprint=fingerprint).exists()
    if remedy is Remedy.ONCE:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_ID])
        refused = _refused_once(run, is_known, chosen, now)
        if refused is not None:
            return refused
    elif remedy is Remedy.FREE and is_known:
        return of.CONTINUED
    elif is_known:
        return of.SAME_AGAIN
    elif remedy is Remedy.ATTEMPT and run.task.attempts + 1 >= run.task.max_attempts:
        return of.ATTEMPTS_USED
    lately = retries.filter(created_at__gt=now - HOUR)[: chosen.restarts_per_hour].count()
    return of.ACCOUNT_CAP if lately >= chosen.restarts_per_hour else of.RETRY


def _refused_once(run: Run, is_known: bool, chosen: InForce, now: datetime) -> Recovery.Decision | None:
    """Return why a run that got nowhere is not recovered."""
    of = Recovery.Decision
    alike = Recovery.objects.filter(decision=of.RETRY, reason__in=REASONS)
    if alike.filter(task=run.task, run__attempt=run.attempt - 1).exists():
        return of.RECOVERY_ITSELF
    if is_known:
        return of.SAME_AGAIN
    if alike.filter(task=run.task).count() >= chosen.per_task:
        return of.TASK_CAP
    if alike.filter(created_at__gt=now - HOUR).count() >= chosen.per_hour:
        return of.ACCOUNT_CAP
    return None
