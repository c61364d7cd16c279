"""Machines that execute runs: they register, beat, are noticed when they stop, and are taken out of use by people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.queries import joining_keys
from agents.actions import recovery
from agents.actions.dispatch import be_alone
from agents.errors import WorkerConflict, WorkerInUse
from agents.machine import Reading
from agents.models import REMOTE_QUEUE, Run, Worker
from agents.states import ACTIVE_RUN, WORKER_TRANSITIONS, Trust, WorkerStatus
from projects import audit
from projects.actors import Actor
from projects.ids import new_id
from projects.transitions import step

SYSTEM = Actor.system("worker")
SILENT_AFTER = timedelta(seconds=30)
# Whose leases run out besides is gone sooner, or what it had would be given to it once more.
LATE_AFTER = timedelta(seconds=10)
DRAINING = "worker_draining"
CLOCK_AHEAD = "clock_ahead"
RUNTIME_SILENT = "runtime_silent"
WORKER_GONE = "worker_gone"
STOPPING = "worker_stopping"
_TAKES_RUNS = {WorkerStatus.ONLINE, WorkerStatus.BUSY}


@dataclass(frozen=True)
class Registration:
    """What a machine says of itself. `problem`: why it cannot take runs, as a reason code; empty where it can.
    `key_id`: the API key of a remote worker; None for a node of Celery.
    """

    name: str
    queue: str
    capacity: int
    runtime: str
    machine_id: str = ""
    tools: Sequence[str] = ()
    trust: Trust = Trust.NORMAL
    info: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    key_id: int | None = None


# Any constant: the id of the advisory lock that lets one worker register at a time.
_REGISTERING = 0x656B_6C77


def register_worker(given: Registration, *, now: datetime) -> Worker:
    """Make a worker known, or known again after a restart or under another name. A cordoned one stays cordoned.

    Raises WorkerConflict when another machine that beats has its name, or another name its machine id.
    """
    facts = {
        "name": given.name,
        "queue": given.queue,
        "capacity": given.capacity,
        "runtime": given.runtime,
        "machine_id": given.machine_id,
        "tools": sorted(given.tools),
        "trust": given.trust,
        "info": given.info,
        "reason": given.problem,
        "heartbeat_at": now,
        "key_id": given.key_id,
    }
    status = WorkerStatus.ERROR if given.problem else WorkerStatus.ONLINE
    with audit.journal(by=SYSTEM, now=now) as journal:
        # Two that begin in one moment would both find nobody of their name.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_REGISTERING])
        worker = _known(given, now=now)
        if worker is None:
            worker = Worker.objects.create(id=new_id(), registered_at=now, status=status, **facts)
        else:
            Worker.objects.filter(pk=worker.pk).update(**facts)
            if worker.status != WorkerStatus.DRAINING and worker.status != status:
                step(worker, status, table=WORKER_TRANSITIONS)
            worker.refresh_from_db()
        kept = ("name", "capacity", "runtime", "tools", "trust", "reason")
        journal.add("worker.registered", obj=worker, details={name: facts[name] for name in kept})
    return worker


def _known(given: Registration, *, now: datetime) -> Worker | None:
    rows = Worker.objects.select_for_update().filter(
        Q(name=given.name) | (Q(machine_id=given.machine_id) & ~Q(machine_id=""))
    )
    found = list(rows)
    for row in found:
        _check_key(row, given, now=now)
    same = next((row for row in found if given.machine_id and row.machine_id == given.machine_id), None)
    named = next((row for row in found if row.name == given.name), None)
    is_anothers = named and named is not same and named.machine_id not in {"", given.machine_id}
    if named and is_anothers and (same or _is_beating(named, now)):
        raise WorkerConflict(
            f"Another machine works under the name {given.name}. Set EKLAVYA_WORKER_NAME on one of them."
        )
    if same and same.name != given.name and (named or _is_beating(same, now)):
        raise WorkerConflict(
            f"{same.name} has the same machine id as {given.name}. Set EKLAVYA_MACHINE_ID on one of them."
        )
    return same or named


def _check_key(row: Worker, given: Registration, *, now: datetime) -> None:
    """Let nobody become another worker by saying its name or id: a remote one is its key's as long as that is live."""
    is_its_own = row.key_id == given.key_id and row.is_remote == (given.key_id is not None)
    is_free = row.is_remote and not (row.key_id and joining_keys(now).filter(pk=row.key_id).exists())
    if not is_its_own and not is_free:
        raise WorkerConflict(
            f"{row.name} joined in another way or with another key. Revoke that key, forget the worker, "
            "or choose another name."
        )


def _is_beating(worker: Worker, now: datetime) -> bool:
    return worker.status != WorkerStatus.OFFLINE and worker.heartbeat_at > now - SILENT_AFTER


def beat(name: str, *, running: int = 0, reading: Reading | None = None, now: datetime) -> None:
    """Renew a worker's heartbeat: how the machine is, and whether it has room. One thought dead is online again.

    What changes whether it gets runs is in the audit log; that it is busy follows from its runs, and is not.
    """
    worker = Worker.objects.filter(name=name).first()
    if worker is None:
        return
    facts: dict[str, Any] = {"heartbeat_at": now}
    if reading is not None:
        facts["load"] = reading.as_json()
    Worker.objects.filter(pk=worker.pk).update(**facts)
    if reading is not None and worker.reason != STOPPING:
        _note_runtime(worker, reading, now=now)
    if worker.status == WorkerStatus.OFFLINE:
        _move(worker, WorkerStatus.ONLINE, now=now)
    elif worker.status in _TAKES_RUNS:
        to = WorkerStatus.BUSY if running >= worker.capacity else WorkerStatus.ONLINE
        if worker.status != to:
            Worker.objects.filter(pk=worker.pk, status=worker.status).update(status=to)
    if worker.reason == STOPPING:
        return
    if reading is not None and worker.status != WorkerStatus.ERROR and worker.reason != shortage_of(reading):
        _note_shortage(worker, shortage_of(reading), reading, now=now)


def _note_runtime(worker: Worker, reading: Reading, *, now: datetime) -> None:
    """Put a worker whose runtime does not answer into error, and back when it answers. Draining ones stay so.

    What waits for it goes to others; what it does may well go on: sandboxes outlive their daemon.
    """
    problem = reading.runtime_problem
    if problem and worker.status in _TAKES_RUNS | {WorkerStatus.OFFLINE}:
        with audit.journal(by=SYSTEM, now=now):
            be_alone()  # as of `drain_worker`
            _move(worker, WorkerStatus.ERROR, now=now, why=problem, reason=RUNTIME_SILENT)
        recovery.hand_over_queued(worker.name, now=now)
    elif not problem and worker.status == WorkerStatus.ERROR and worker.reason == RUNTIME_SILENT:
        _move(worker, WorkerStatus.ONLINE, now=now, reason=shortage_of(reading))


def shortage_of(reading: Reading) -> str:
    """Return what a machine lacks to take another run, as a reason code; empty where it lacks nothing."""
    if reading.disk_free_mb < settings.EKLAVYA_MIN_DISK_MB:
        return "disk_short"
    if reading.memory_free_mb < settings.EKLAVYA_MIN_MEMORY_MB:
        return "memory_short"
    return ""


def _note_shortage(worker: Worker, reason: str, reading: Reading, *, now: datetime) -> None:
    with audit.journal(by=SYSTEM, now=now) as journal:
        Worker.objects.filter(pk=worker.pk).update(reason=reason)
        details = {"name": worker.name, "reason": reason, "was": worker.reason}
        free = {"disk_free_mb": reading.disk_free_mb, "memory_free_mb": reading.memory_free_mb}
        journal.add("worker.short" if reason else "worker.sufficient", obj=worker, details=details | free)


def sign_off(name: str, *, now: datetime) -> None:
    """Note that a worker stopped in good order."""
    worker = Worker.objects.filter(name=name).exclude(status=WorkerStatus.OFFLINE).first()
    if worker:
        _move(worker, WorkerStatus.OFFLINE, now=now)


def listening_queues() -> list[str]:
    """Return the queues of the machines that beat and that Celery reaches."""
    listening = Worker.objects.exclude(status=WorkerStatus.OFFLINE).exclude(queue__startswith=REMOTE_QUEUE)
    return list(listening.order_by("name").values_list("queue", flat=True))


def notice_silent(*, now: datetime) -> int:
    """Mark workers offline whose heartbeat stopped; return how many. Only while the house has a pulse.

    A heartbeat from the future says nothing about now: its worker is in error until its clock is right.
    """
    lost = Run.objects.filter(worker=OuterRef("pk"), status__in=ACTIVE_RUN, lease_until__lt=now)
    silent = Q(heartbeat_at__lt=now - SILENT_AFTER) | Q(Exists(lost), heartbeat_at__lt=now - LATE_AFTER)
    found = _take_offline(Worker.objects.filter(silent), now=now)
    in_error = Q(status=WorkerStatus.ERROR, reason=CLOCK_AHEAD)
    ahead = Q(heartbeat_at__gt=now + SILENT_AFTER)
    for worker in Worker.objects.filter((ahead & ~in_error) | (in_error & ~ahead)):
        if worker.status == WorkerStatus.ERROR and worker.reason == CLOCK_AHEAD:
            _move(worker, WorkerStatus.ONLINE, now=now, reason="")
        elif worker.status != WorkerStatus.ERROR:
            _move(worker, WorkerStatus.ERROR, now=now, reason=CLOCK_AHEAD)
    return found


def notice_shut_out(*, now: datetime) -> int:
    """Mark remote workers offline whose key lets nobody in any more; return how many. It needs no pulse: it is so."""
    lets_in = joining_keys(now).filter(pk=OuterRef("key"))
    return _take_offline(Worker.objects.filter(~Exists(lets_in), queue__startswith=REMOTE_QUEUE), now=now)


def _take_offline(which: QuerySet[Worker], *, now: datetime) -> int:
    """The runs of a node are found by their leases; those of a remote worker are asked to end."""
    gone = list(which.exclude(status=WorkerStatus.OFFLINE))
    for worker in gone:
        _move(worker, WorkerStatus.OFFLINE, now=now)
        if worker.is_remote:
            ask_runs(worker, WORKER_GONE)
    return len(gone)


def cordon_worker(worker: Worker, *, by: Actor, now: datetime) -> None:
    """Have a worker take nothing new. Its runs go on; restarts change nothing. Idempotent."""
    with audit.journal(by=by, now=now) as journal:
        if Worker.objects.filter(pk=worker.pk, cordoned_at__isnull=True).update(cordoned_at=now):
            journal.add("worker.cordoned", obj=worker, details={"name": worker.name})


def drain_worker(worker: Worker, *, by: Actor, now: datetime) -> int:
    """Cordon a worker and have others go on with its runs, which save their files and end. Return how many they are."""
    cordon_worker(worker, by=by, now=now)
    with audit.journal(by=by, now=now) as journal:
        # Whoever dispatches now may not have seen that it is cordoned: what it makes is there afterwards.
        be_alone()
        worker.refresh_from_db()
        if worker.status in _TAKES_RUNS:
            step(worker, WorkerStatus.DRAINING, table=WORKER_TRANSITIONS)
        asked = ask_runs(worker, DRAINING)
        journal.add("worker.drained", obj=worker, details={"name": worker.name, "asked": asked})
    recovery.hand_over_queued(worker.name, now=now)
    return asked


def ask_runs(worker: Worker, reason: str) -> int:
    """Ask a worker's runs to end, and return how many. Queued ones too: one may be taken before it is handed over."""
    return Run.objects.filter(status__in=ACTIVE_RUN, worker=worker, stop_requested="").update(stop_requested=reason)


def uncordon_worker(worker: Worker, *, by: Actor, now: datetime) -> None:
    """Let a worker take runs again. Idempotent."""
    with audit.journal(by=by, now=now) as journal:
        worker.refresh_from_db()
        if worker.cordoned_at is None:
            return
        if worker.status == WorkerStatus.DRAINING:
            step(worker, WorkerStatus.ONLINE, table=WORKER_TRANSITIONS, cordoned_at=None)
        else:
            Worker.objects.filter(pk=worker.pk).update(cordoned_at=None)
        journal.add("worker.uncordoned", obj=worker, details={"name": worker.name})


def forget_worker(worker: Worker, *, by: Actor, now: datetime) -> None:
    """Remove a worker that is gone for good. Its runs stay, without its name. Raises WorkerInUse while it beats."""
    with audit.journal(by=by, now=now) as journal:
        gone = Worker.objects.select_for_update().filter(pk=worker.pk, status=WorkerStatus.OFFLINE)
        if not gone.exists():
            raise WorkerInUse(f"{worker.name} still answers. Stop it first.")
        journal.add("worker.forgotten", obj=worker, details={"name": worker.name})
        gone.delete()


def _move(worker: Worker, to: WorkerStatus, *, now: datetime, why: str = "", **fields: Any) -> None:
    details = {"name": worker.name, **fields} | ({"why": why} if why else {})
    with audit.journal(by=SYSTEM, now=now) as journal:
        step(worker, to, table=WORKER_TRANSITIONS, **fields)
        journal.add(f"worker.{to.value}", obj=worker, details=details)
