"""Remote workers: machines that join by the API, and what they report. What does not fit is refused and recorded."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts.models import ApiKey
from accounts.scopes import Scope
from agents.actions import recovery, workers
from agents.actions.dispatch import be_alone
from agents.actions.workers import STOPPING, SYSTEM, Registration
from agents.errors import ReportRefused
from agents.machine import Reading
from agents.models import REMOTE_QUEUE, Run, Worker
from agents.states import ACTIVE_RUN, Trust
from projects import audit
from projects.actions import refusals
from projects.actions.refusals import Refusal

# Of a heartbeat. What is older was delayed on its way; what is from the future is a clock that is wrong.
CLOCK_TOLERANCE = timedelta(seconds=30)


def join(given: Registration, *, key: ApiKey, now: datetime) -> Worker:
    """Make a remote worker known, or known again after a restart: then nothing of its earlier runs is there any more.

    Its trust is its key's, and not what it says. Raises WorkerConflict.
    """
    trust = Trust.SENSITIVE if Scope.WORKERS_SENSITIVE in key.scopes else Trust.NORMAL
    # Runs are supervised on the machine of the web server that let it in, where their files are.
    queue = f"{REMOTE_QUEUE}{given.machine_id}.{settings.EKLAVYA_WORKER_QUEUE}"
    with audit.journal(by=SYSTEM, now=now):
        worker = workers.register_worker(replace(given, queue=queue, trust=trust, key_id=key.pk), now=now)
        workers.ask_runs(worker, workers.WORKER_GONE)
    return worker


def beat(worker: Worker, reading: Reading, *, running: list[UUID], said_at: datetime, now: datetime) -> list[UUID]:
    """Take a heartbeat in; return those of the runs it names that are not its own, or not any more: it ends them.

    Raises ReportRefused for one from the future.
    """
    if said_at > now + CLOCK_TOLERANCE:
        raise refuse(
            worker, "clock_ahead", "This heartbeat is from the future. Set the machine's clock right.", now=now
        )
    own = set(Run.objects.filter(worker=worker, status__in=ACTIVE_RUN).values_list("pk", flat=True))
    workers.beat(worker.name, running=len(own), reading=reading, now=now)
    return [run_id for run_id in running if run_id not in own]


def stop(worker: Worker, *, now: datetime) -> int:
    """A worker is about to stop: its runs save their files and end, others go on. Return how many were asked."""
    with audit.journal(by=SYSTEM, now=now) as journal:
        be_alone()
        if Worker.objects.filter(pk=worker.pk).exclude(reason=STOPPING).update(reason=STOPPING):
            journal.add("worker.stopping", obj=worker, details={"name": worker.name})
        asked = workers.ask_runs(worker, STOPPING)
    recovery.hand_over_queued(worker.name, now=now)
    return asked


def leave(worker: Worker, *, now: datetime) -> None:
    """A worker has stopped. Whatever it had not handed over goes on elsewhere."""
    stop(worker, now=now)
    workers.ask_runs(worker, workers.WORKER_GONE)
    workers.sign_off(worker.name, now=now)


def run_of(worker: Worker, run_id: UUID, *, now: datetime) -> Run:
    """Return a run that the worker has. Raises ReportRefused for another's, and for one that has ended."""
    run = Run.objects.select_related("worker").filter(pk=run_id).first()
    if run is None or run.worker_id != worker.pk:
        raise refuse(worker, "not_its_run", "This worker has no such run.", now=now, run=run_id)
    if not run.is_active:
        raise refuse(
            worker, "run_ended", "This run has ended; what is reported of it comes too late.", now=now, run=run_id
        )
    return run


def refuse(worker: Worker, reason: str, sentence: str, *, now: datetime, **details: Any) -> ReportRefused:
    """Record that something a worker reported is not taken in, and return the error that says so.

    However often it reports nonsense: a row a minute for each reason, with the number of reports (`refusals`).
    """
    told = {"name": worker.name, "reason": reason, **{name: str(value) for name, value in details.items()}}
    refusals.note(Refusal("worker.report_refused", f"worker {worker.pk}", reason, told, worker), by=SYSTEM, now=now)
    return ReportRefused(sentence)
