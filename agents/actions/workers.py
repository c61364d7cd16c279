"""Machines that execute runs: they register, beat, and are noticed when they stop."""

from datetime import datetime, timedelta
from typing import Any

from agents.models import Worker
from agents.states import WORKER_TRANSITIONS, WorkerStatus
from projects import audit
from projects.actors import Actor
from projects.ids import new_id
from projects.transitions import step

SILENT_AFTER = timedelta(seconds=30)


def register_worker(
    name: str, *, queue: str, capacity: int, runtime: str, info: dict[str, Any], now: datetime
) -> Worker:
    """Make a worker known, or known again after a restart, ready to take runs. A draining one stays draining."""
    by = Actor.system("worker")
    facts = {"queue": queue, "capacity": capacity, "runtime": runtime, "info": info, "heartbeat_at": now}
    with audit.journal(by=by, now=now) as journal:
        worker, created = Worker.objects.select_for_update().get_or_create(
            name=name, defaults={"id": new_id(), "registered_at": now, **facts}
        )
        if not created:
            Worker.objects.filter(pk=worker.pk).update(**facts)
            if worker.status in {WorkerStatus.OFFLINE, WorkerStatus.ERROR}:
                step(worker, WorkerStatus.ONLINE, table=WORKER_TRANSITIONS)
        journal.add("worker.registered", obj=worker, details={"name": name, "capacity": capacity, "runtime": runtime})
    return worker


def beat(name: str, *, now: datetime) -> None:
    """Renew a worker's heartbeat; one that was thought dead is online again."""
    Worker.objects.filter(name=name).update(heartbeat_at=now)
    returned = Worker.objects.filter(name=name, status=WorkerStatus.OFFLINE).first()
    if returned:
        _move(returned, WorkerStatus.ONLINE, now=now)


def sign_off(name: str, *, now: datetime) -> None:
    """Note that a worker stopped in good order."""
    worker = Worker.objects.filter(name=name).exclude(status=WorkerStatus.OFFLINE).first()
    if worker:
        _move(worker, WorkerStatus.OFFLINE, now=now)


def listening_queues() -> list[str]:
    """Return the queues of the machines that beat."""
    return list(Worker.objects.exclude(status=WorkerStatus.OFFLINE).order_by("name").values_list("queue", flat=True))


def notice_silent(*, now: datetime) -> int:
    """Mark workers offline whose heartbeat stopped. Their runs are found by their leases."""
    silent = Worker.objects.filter(heartbeat_at__lt=now - SILENT_AFTER).exclude(status=WorkerStatus.OFFLINE)
    for worker in (found := list(silent)):
        _move(worker, WorkerStatus.OFFLINE, now=now)
    return len(found)


def _move(worker: Worker, to: WorkerStatus, *, now: datetime) -> None:
    with audit.journal(by=Actor.system("worker"), now=now) as journal:
        step(worker, to, table=WORKER_TRANSITIONS)
        journal.add(f"worker.{to.value}", obj=worker, details={"name": worker.name})
