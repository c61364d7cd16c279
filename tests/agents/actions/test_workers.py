"""Machines as workers: registered, beating, short of something, cordoned, drained, forgotten."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from agents import pages
from agents.actions import recovery, workers
from agents.actions.dispatch import dispatch
from agents.actions.leases import hold_run
from agents.actions.workers import DRAINING, LATE_AFTER, SILENT_AFTER, Registration
from agents.errors import WorkerConflict, WorkerInUse
from agents.machine import Reading
from agents.models import Run, Worker
from agents.states import WorkerStatus
from projects.models import AuditLog, Task
from tests.factories import NOW, TESTER, ProjectFactory, RunFactory, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db
SOON = NOW + timedelta(seconds=2)
LATER = NOW + timedelta(minutes=1)
GOOD = Reading(cpu_percent=10, memory_free_mb=4000, memory_mb=8000, disk_free_mb=50_000)
FULL_DISK = Reading(cpu_percent=10, memory_free_mb=4000, memory_mb=8000, disk_free_mb=10)
NO_DAEMON = replace(GOOD, runtime_problem="No Docker daemon answers.")
NO_MEMORY = Reading(cpu_percent=10, memory_free_mb=10, memory_mb=8000, disk_free_mb=50_000)


def registration(name: str = "one", machine_id: str = "machine", **fields: object) -> Registration:
    given = {"queue": f"runs.{name}", "capacity": 2, "runtime": "local"} | fields
    return Registration(name=name, machine_id=machine_id, **given)  # type: ignore[arg-type]


def actions() -> list[str]:
    return list(AuditLog.objects.filter(action__startswith="worker.").order_by("seq").values_list("action", flat=True))


def test_a_machine_is_one_worker_whatever_its_name() -> None:
    first = workers.register_worker(registration("one", tools=["git", "browser"]), now=NOW)
    workers.sign_off("one", now=SOON)

    again = workers.register_worker(registration("two"), now=LATER)

    assert (again.pk, again.name, again.queue, again.status) == (first.pk, "two", "runs.two", WorkerStatus.ONLINE)
    assert first.tools == ["browser", "git"]
    assert actions() == ["worker.registered", "worker.offline", "worker.registered"]


def test_a_worker_from_before_there_were_ids_gets_its_own() -> None:
    known = WorkerFactory(name="one")

    assert workers.register_worker(registration("one"), now=NOW).pk == known.pk
    assert Worker.objects.get().machine_id == "machine"


@pytest.mark.parametrize(
    ("second", "remedy"),
    [(registration("one", "other"), "EKLAVYA_WORKER_NAME"), (registration("two", "machine"), "EKLAVYA_MACHINE_ID")],
)
def test_two_machines_that_beat_are_not_one_worker(second: Registration, remedy: str) -> None:
    workers.register_worker(registration(), now=NOW)

    with pytest.raises(WorkerConflict, match=remedy):
        workers.register_worker(second, now=SOON)

    assert Worker.objects.get().name == "one"
    # The first is gone: a new machine with an old name, an old machine with a new one.
    assert workers.register_worker(second, now=LATER).pk == Worker.objects.get().pk


def test_a_machine_does_not_take_another_ones_name_that_is_known() -> None:
    WorkerFactory(name="one", machine_id="first", status="offline")
    WorkerFactory(name="two", machine_id="second", status="offline")

    with pytest.raises(WorkerConflict):
        workers.register_worker(registration("one", "second"), now=NOW)


def test_a_machine_without_a_runtime_is_in_error_until_it_has_one() -> None:
    worker = workers.register_worker(registration(problem="runtime_unavailable"), now=NOW)
    workers.beat("one", reading=GOOD, now=SOON)
    worker.refresh_from_db()
    assert (worker.status, worker.reason) == (WorkerStatus.ERROR, "runtime_unavailable")

    worker = workers.register_worker(registration(), now=LATER)
    assert (worker.status, worker.reason) == (WorkerStatus.ONLINE, "")


def test_a_beat_keeps_the_reading_and_writes_nothing_else() -> None:
    worker = WorkerFactory(name="one")
    before = AuditLog.objects.count()

    workers.beat("one", reading=GOOD, now=SOON)

    worker.refresh_from_db()
    assert (worker.heartbeat_at, worker.load["memory_free_mb"], worker.status) == (SOON, 4000, WorkerStatus.ONLINE)
    assert AuditLog.objects.count() == before


def test_a_worker_is_busy_while_it_has_no_room() -> None:
    worker = WorkerFactory(name="one", capacity=2)
    seen = []
    for running in (1, 2, 3, 1):
        workers.beat("one", running=running, now=SOON)
        worker.refresh_from_db()
        seen.append(worker.status)
    assert seen == ["online", "busy", "busy", "online"]


@pytest.mark.parametrize(("reading", "reason"), [(FULL_DISK, "disk_short"), (NO_MEMORY, "memory_short")])
def test_a_machine_that_is_short_takes_no_new_run_until_it_is_not(reading: Reading, reason: str) -> None:
    WorkerFactory(name="one")
    TaskFactory(project=ProjectFactory(status="building"))
    for _ in range(3):
        workers.beat("one", reading=reading, now=SOON)

    assert Worker.objects.get().reason == reason
    assert dispatch(now=SOON) == []

    workers.beat("one", reading=GOOD, now=SOON)
    assert len(dispatch(now=SOON)) == 1
    assert actions() == ["worker.short", "worker.sufficient"]


@pytest.mark.parametrize("status", [WorkerStatus.ONLINE, WorkerStatus.BUSY, WorkerStatus.OFFLINE])
def test_a_worker_whose_runtime_does_not_answer_takes_nothing_until_it_does(status: WorkerStatus) -> None:
    worker = WorkerFactory(name="one", status=status)
    running, queued = RunFactory(status="running", worker=worker), RunFactory(worker=worker)
    for _ in range(3):
        workers.beat("one", reading=NO_DAEMON, now=SOON)

    worker.refresh_from_db()
    assert (worker.status, worker.reason) == (WorkerStatus.ERROR, "runtime_silent")
    assert "No Docker daemon answers." in pages.shown_worker(worker, is_late=False).reason
    task = Task.objects.get(pk=queued.task_id)
    assert (Run.objects.get(pk=queued.pk).status, task.status, task.attempts) == ("cancelled", "ready", 0)
    assert Run.objects.get(pk=running.pk).stop_requested == ""  # sandboxes outlive their daemon
    assert dispatch(now=SOON) == []

    workers.beat("one", running=1, reading=GOOD, now=SOON)
    worker.refresh_from_db()
    assert (worker.status, worker.reason) == (WorkerStatus.ONLINE, "")
    assert len(dispatch(now=SOON)) == 1
    assert actions() == ["worker.error", "worker.online"]
    row = AuditLog.objects.get(action="worker.error")
    assert (row.details["reason"], row.details["why"]) == ("runtime_silent", "No Docker daemon answers.")


def test_a_worker_whose_runtime_answers_again_is_still_short_of_what_it_is_short_of() -> None:
    worker = WorkerFactory(name="one")
    for reading in (FULL_DISK, NO_DAEMON, FULL_DISK):
        workers.beat("one", reading=reading, now=SOON)

    worker.refresh_from_db()
    assert (worker.status, worker.reason) == (WorkerStatus.ONLINE, "disk_short")
    assert actions() == ["worker.short", "worker.error", "worker.online"]


@pytest.mark.parametrize(
    "kept",
    [
        {"status": WorkerStatus.DRAINING, "cordoned_at": NOW},
        {"status": WorkerStatus.ONLINE, "reason": "worker_stopping"},
        {"status": WorkerStatus.ERROR, "reason": "runtime_unavailable"},
        {"status": WorkerStatus.ERROR, "reason": "clock_ahead"},
    ],
)
def test_who_takes_nothing_for_another_reason_keeps_it(kept: dict[str, object]) -> None:
    worker = WorkerFactory(name="one", **kept)
    for reading in (NO_DAEMON, GOOD):
        workers.beat("one", reading=reading, now=SOON)

        worker.refresh_from_db()
        assert {name: getattr(worker, name) for name in kept} == kept


def test_a_silent_worker_is_offline_and_back_with_its_next_beat() -> None:
    worker = WorkerFactory(name="one")

    assert workers.notice_silent(now=NOW + SILENT_AFTER) == 0
    assert workers.notice_silent(now=LATER) == 1
    workers.beat("one", now=LATER)

    worker.refresh_from_db()
    assert worker.status == WorkerStatus.ONLINE
    assert actions() == ["worker.offline", "worker.online"]


def test_a_silent_worker_whose_lease_ran_out_is_offline_sooner() -> None:
    """Or what it had would be given to it once more. One that still beats only lost a thread."""
    now = NOW + LATE_AFTER + timedelta(seconds=1)
    silent, beating, _ = (WorkerFactory(name=name) for name in ("silent", "beating", "idle"))
    for worker in (silent, beating):
        RunFactory(status="running", worker=worker, lease_until=NOW)
    workers.beat("beating", now=now)

    assert workers.notice_silent(now=now) == 1

    found = dict(Worker.objects.values_list("name", "status"))
    assert (found["silent"], found["idle"]) == (WorkerStatus.OFFLINE, WorkerStatus.ONLINE)
    assert found["beating"] != WorkerStatus.OFFLINE


def test_a_heartbeat_from_the_future_is_not_believed() -> None:
    worker = WorkerFactory(name="one")
    TaskFactory(project=ProjectFactory(status="building"))
    workers.beat("one", now=NOW + timedelta(hours=1))

    for _ in range(2):
        workers.notice_silent(now=NOW)
    worker.refresh_from_db()
    assert (worker.status, worker.reason) == (WorkerStatus.ERROR, "clock_ahead")
    assert dispatch(now=NOW) == []

    workers.beat("one", now=SOON)  # somebody set its clock right
    workers.notice_silent(now=SOON)
    worker.refresh_from_db()
    assert (worker.status, worker.reason) == (WorkerStatus.ONLINE, "")
    assert actions() == ["worker.error", "worker.online"]


def test_a_cordoned_worker_takes_nothing_new_and_keeps_what_it_has() -> None:
    worker = WorkerFactory(name="one")
    run = RunFactory(status="running", worker=worker)
    TaskFactory(project=ProjectFactory(status="building"))

    for _ in range(2):
        workers.cordon_worker(worker, by=TESTER, now=NOW)
    workers.register_worker(registration("one"), now=SOON)  # a restart changes nothing

    assert dispatch(now=SOON) == []
    assert Run.objects.get(pk=run.pk).stop_requested == ""

    for _ in range(2):
        workers.uncordon_worker(worker, by=TESTER, now=LATER)
    assert len(dispatch(now=LATER)) == 1
    assert actions() == ["worker.cordoned", "worker.registered", "worker.uncordoned"]


def test_a_drained_worker_hands_over_what_it_has() -> None:
    worker, other = WorkerFactory(name="one"), WorkerFactory(name="other")
    running, queued = RunFactory(status="running", worker=worker), RunFactory(worker=worker)
    elsewhere = RunFactory(status="running", worker=other)

    assert workers.drain_worker(worker, by=TESTER, now=NOW) == 2

    worker.refresh_from_db()
    running.refresh_from_db()
    elsewhere.refresh_from_db()
    assert (worker.status, worker.cordoned_at) == (WorkerStatus.DRAINING, NOW)
    assert (running.stop_requested, elsewhere.stop_requested) == (DRAINING, "")
    assert Run.objects.get(pk=queued.pk).status == "cancelled"
    assert Task.objects.get(pk=queued.task_id).status == "ready"
    (made,) = dispatch(now=NOW)
    assert made.queue == other.queue

    assert workers.drain_worker(worker, by=TESTER, now=SOON) == 0
    workers.beat("one", now=SOON)
    worker.refresh_from_db()
    assert worker.status == WorkerStatus.DRAINING
    workers.uncordon_worker(worker, by=TESTER, now=SOON)
    worker.refresh_from_db()
    assert worker.status == WorkerStatus.ONLINE


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_being_made_while_its_worker_is_drained_is_handed_over_too() -> None:
    """Who dispatched had looked at the workers before this one was cordoned."""
    worker = WorkerFactory()
    TaskFactory(status="ready")

    def drain() -> int:
        try:
            return workers.drain_worker(worker, by=TESTER, now=NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert dispatch(now=NOW)
            drained = pool.submit(drain)
            with suppress(TimeoutError):  # it waits for us, as it should
                drained.result(timeout=1)
        assert drained.result(timeout=60) == 1
    run = Run.objects.get()
    assert (run.status, run.stop_requested) == ("cancelled", DRAINING)


def test_a_queued_run_that_is_taken_while_its_worker_is_drained_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerFactory()
    run = RunFactory(worker=worker)
    hand_over = recovery.hand_over_queued

    def take_first(name: str, *, now: datetime) -> int:
        hold_run(Run.objects.get(pk=run.pk), owner="me", prompt_version_id=None, now=now)
        return hand_over(name, now=now)

    monkeypatch.setattr(recovery, "hand_over_queued", take_first)
    assert workers.drain_worker(worker, by=TESTER, now=NOW) == 1

    run.refresh_from_db()
    assert (run.lease_owner, run.stop_requested) == ("me", DRAINING)


def test_only_a_worker_that_is_gone_is_forgotten() -> None:
    worker = WorkerFactory()
    run = RunFactory(status="succeeded", worker=worker)

    with pytest.raises(WorkerInUse):
        workers.forget_worker(worker, by=TESTER, now=NOW)
    workers.sign_off(worker.name, now=NOW)
    workers.forget_worker(worker, by=TESTER, now=NOW)

    run.refresh_from_db()
    assert run.worker is None
    assert actions() == ["worker.offline", "worker.forgotten"]


@pytest.mark.parametrize("nonsense", [{"status": "draining", "cordoned_at": None}, {"machine_id": "twice"}])
def test_the_database_refuses_nonsense(nonsense: dict[str, object]) -> None:
    WorkerFactory(machine_id="twice")
    with pytest.raises(IntegrityError), transaction.atomic():
        WorkerFactory(**nonsense)


@pytest.mark.django_db(transaction=True)
def test_two_that_register_in_one_moment_are_one_worker() -> None:
    given = Registration(name="here", queue="runs.here", capacity=2, runtime="local", machine_id="m")
    both = threading.Barrier(2, timeout=30)

    def register() -> Worker:
        try:
            both.wait()
            return workers.register_worker(given, now=NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        first, second = [future.result(30) for future in [pool.submit(register) for _ in range(2)]]

    assert first == second == Worker.objects.get()
