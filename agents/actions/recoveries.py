"""Whether a task goes on by itself after its run got nowhere. Plain code decides, once per run, and says why in a row.

A run that was stalled, went in circles or stood still is tried again once for each fingerprint of its failure. A run
that is itself such a second try is never recovered: a person is asked. Caps per task and account hold a wave of
failures, and each kind can be switched off (EKLAVYA_RECOVER).
"""

import hashlib
import re
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from agents.models import Recovery, Run
from projects import audit
from projects.actors import Actor
from projects.ids import new_id

RECOVERER = Actor.system("recovery")
STALLED, LOOPING, NO_DIFF, SILENT = "stalled", "looping", "no_diff", "supervisor_silent"
REASONS = frozenset({STALLED, LOOPING, NO_DIFF, SILENT})
HOUR = timedelta(hours=1)
# Any constant: the id of the advisory lock that lets one decision count at a time.
_LOCK_ID = 0x656B_7263
_NUMBERS = re.compile(r"\d+")


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
    if reason not in settings.EKLAVYA_RECOVER:
        return of.SWITCHED_OFF
    retries = Recovery.objects.filter(decision=of.RETRY)
    of_task = retries.filter(task=run.task)
    if of_task.filter(run__attempt=run.attempt - 1).exists():
        return of.RECOVERY_ITSELF
    if of_task.filter(fingerprint=fingerprint).exists():
        return of.SAME_AGAIN
    if of_task.count() >= settings.EKLAVYA_RECOVERIES_PER_TASK:
        return of.TASK_CAP
    if retries.filter(created_at__gt=now - HOUR).count() >= settings.EKLAVYA_RECOVERIES_PER_HOUR:
        return of.ACCOUNT_CAP
    return of.RETRY
