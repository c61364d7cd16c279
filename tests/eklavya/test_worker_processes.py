"""Real beats and a real worker, as processes of their own on the servers of the tests."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from agents.models import Worker
from eklavya import beat
from eklavya.beat import LOCK_ID, SoleLock, SoleScheduler
from eklavya.celery import app
from tests.factories import NOW, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_S = 180
TICKING = "tests.ticking"


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@contextmanager
def celery(*arguments: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of Celery's programs on the database of the test; killed in the end."""
    of = connection.settings_dict
    url = f"postgresql://{of['USER']}@/{of['NAME']}?host={of['HOST']}"
    own = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "eklavya.settings", "EKLAVYA_DB_POOL_SIZE": "4"}
    command = [sys.executable, "-m", "celery", "-A", "eklavya", *arguments, "--loglevel", "INFO"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | own | environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.kill()
            process.wait()


def sent() -> Counter[str]:
    """Take what lies in the queue of light work, and count it by task."""
    found: Counter[str] = Counter()
    with app.connection_for_read() as broker:
        while (
            message := broker.default_channel.basic_get(settings.CELERY_TASK_DEFAULT_QUEUE, no_ack=True)
        ) is not None:
            found[message.headers["task"]] += 1
    return found


def sender_of() -> int | None:
    """Return the server's process that holds the lock of the beat that sends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE d.datname = current_database() AND locktype = 'advisory' AND objid = %s AND granted",
            [LOCK_ID],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def test_of_two_beats_one_sends_and_the_other_follows_when_it_is_killed(tmp_path: Path) -> None:
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name=TICKING, task=TICKING, interval=every)
    PeriodicTasks.update_changed()
    sent()
    logs = tmp_path / "first", tmp_path / "second"
    with (
        celery("beat", "--pidfile", str(tmp_path / "1"), log=logs[0]) as first,
        celery("beat", "--pidfile", str(tmp_path / "2"), log=logs[1]) as second,
    ):
        beats = {first: logs[0], second: logs[1]}
        wait_until(lambda: all("beat: Starting" in log.read_text() for log in logs) and sent()[TICKING])
        (sending,) = [one for one, log in beats.items() if "beat sends" in log.read_text()]
        (waiting,) = [one for one in beats if one is not sending]

        for _ in range(3):
            sent()
            wait_until(lambda: sent()[TICKING])
        assert "Sending due task" in beats[sending].read_text()
        assert "Sending due task" not in beats[waiting].read_text(), "both send"

        sending.kill()
        wait_until(lambda: "beat sends" in beats[waiting].read_text())
        sent()
        wait_until(lambda: sent()[TICKING])


def test_a_beat_sends_though_one_whose_clock_was_ahead_sent_before() -> None:
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    ahead = timezone.now() + timedelta(days=2)
    PeriodicTask.objects.create(name=TICKING, task=TICKING, interval=every, last_run_at=ahead)
    found: list[str] = []

    class Noting(SoleScheduler):
        def apply_entry(self, entry: Any, producer: Any = None) -> None:
            found.append(entry.name)

    scheduler = Noting(app=app)
    try:
        wait_until(lambda: scheduler.tick() >= 0 and TICKING in found)
    finally:
        scheduler.close()
    assert PeriodicTask.objects.get(name=TICKING).last_run_at < ahead


def test_a_beat_whose_session_the_server_ended_knows_that_it_does_not_send() -> None:
    one, other = SoleLock(), SoleLock()
    try:
        assert one.is_held()
        assert one.is_held()
        assert not other.is_held()

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [sender_of()])

        assert other.is_held()
        assert not one.is_held()
        assert not one.is_held()  # it looks anew, and the other has it
    finally:
        one.close()
        other.close()
    wait_until(lambda: sender_of() is None)


def test_a_beat_that_was_stopped_loses_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with SIGSTOP or a cut cable: its session stays, and says nothing."""
    monkeypatch.setattr(beat, "IDLE_S", 1)
    stopped, other = SoleLock(), SoleLock()
    try:
        assert stopped.is_held()
        wait_until(other.is_held)
        assert not stopped.is_held()
    finally:
        stopped.close()
        other.close()


def test_a_worker_of_light_work_forks_and_leaves_runs_to_machines(tmp_path: Path) -> None:
    call_command("setup", verbosity=0)
    WorkerFactory(queue="runs.elsewhere")
    task = TaskFactory(next_attempt_at=NOW)
    sent()
    log = tmp_path / "log"
    options = ["--concurrency", "2", "--without-mingle", "--without-gossip", "--hostname", "light@tests"]
    with celery("worker", *options, log=log, EKLAVYA_WORKER="light") as worker:
        wait_until(lambda: "ready." in log.read_text())
        assert len(psutil.Process(worker.pid).children()) == 2

        app.send_task("agents.tasks.dispatch")

        wait_until(lambda: task.runs.exists())
        assert [one.queue for one in Worker.objects.all()] == ["runs.elsewhere"], "it announced itself"
        with app.connection_for_read() as broker:
            wait_until(lambda: broker.default_channel.basic_get("runs.elsewhere", no_ack=True))
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()
