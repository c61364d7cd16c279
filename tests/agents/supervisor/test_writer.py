"""The one writer of a process's transcripts, on the real database: what one run suffers is nothing to the others."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections

from agents.actions import leases, transcript
from agents.actions.transcript import Line, record_lines
from agents.models import Run, RunEvent
from agents.supervisor import writer as writer_module
from agents.supervisor.keeper import LEASE_LOST, Stop
from agents.supervisor.writer import MOST_LINES, Record, Writer
from eklavya.env import BASE_DIR
from projects.models import AuditLog
from tests.agents.supervisor.line import environment, wait_until
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def writer() -> Writer:
    return Writer()


def text(number: int) -> Line:
    return Line(RunEvent.Kind.TEXT, {"text": str(number)}, NOW)


def call(number: int) -> Line:
    payload = {"id": f"c{number}", "name": "Bash", "input": {"command": str(number)}}
    return Line(RunEvent.Kind.TOOL_USE, payload, NOW)


def opened(writer: Writer, count: int) -> list[tuple[Record, Stop]]:
    stops = [Stop() for _ in range(count)]
    return [(writer.record(RunFactory(status="running"), stop), stop) for stop in stops]


def finish(*records: Record) -> None:
    """Wait until all of them are stored."""

    async def wait() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(record.stored() for record in records))

    asyncio.run(wait())


def texts(run: Run) -> list[str]:
    """What is stored of a run, whose numbers must have no gap and end where its row says."""
    events = list(RunEvent.objects.filter(run=run).order_by("seq"))
    run = Run.objects.get(pk=run.pk)
    assert [event.seq for event in events] == list(range(1, run.last_seq + 1))
    return [event.payload["text"] for event in events]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@contextmanager
def elsewhere() -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A session of somebody else's."""
    of = connection.settings_dict
    with psycopg.connect(host=of["HOST"], user=of["USER"], dbname=of["NAME"]) as other:
        yield other


def test_many_runs_are_stored_together_each_in_its_order(writer: Writer) -> None:
    records = [record for record, _ in opened(writer, 12)]

    def talk(record: Record) -> None:
        for number in range(60):
            record.add([text(number)])
        finish(record)

    with ThreadPoolExecutor(12) as talking:
        list(talking.map(talk, records))

    assert [texts(record.run) for record in records] == [numbers(60)] * 12
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text) FROM agents_runevent")
        (transactions,) = cursor.fetchone()
    # Twelve that end hurry the writer twelve times at most; 720 lines are as many transactions without it.
    assert transactions < 40


def test_who_lost_its_lease_stops_alone(writer: Writer) -> None:
    (lost, stop), *others = opened(writer, 4)
    for record, _ in [(lost, stop), *others]:
        record.add([text(0)])
    finish(lost, *(record for record, _ in others))
    Run.objects.filter(pk=lost.run.pk).update(lease_owner="elsewhere")

    for record, _ in [(lost, stop), *others]:
        record.add([text(1), call(2)])
    finish(lost, *(record for record, _ in others))
    lost.add([text(3)])
    finish(lost)

    assert stop.reason == LEASE_LOST
    assert texts(lost.run) == ["0"]
    for record, other in others:
        assert other.reason == ""
        assert Run.objects.get(pk=record.run.pk).last_seq == 3
    called = AuditLog.objects.filter(action="tool.called").values_list("object_id", flat=True)
    assert sorted(called) == sorted(str(record.run.pk) for record, _ in others)


def test_lines_that_cannot_be_stored_take_nobody_along(writer: Writer) -> None:
    (broken, stop), (other, _) = opened(writer, 2)
    broken.add([Line(RunEvent.Kind.TEXT, {"text": "", "odd": {1}}, NOW)])
    other.add([text(0)])

    finish(other)
    with pytest.raises(TypeError, match="not JSON serializable"):
        finish(broken)

    assert texts(other.run) == ["0"]
    assert texts(broken.run) == []
    assert broken.is_full  # so that who listens asks for room, and hears it
    assert stop.reason == ""


def test_a_run_whose_row_is_somebody_elses_waits_alone(writer: Writer) -> None:
    (held, stop), (other, _) = opened(writer, 2)
    with elsewhere() as session:
        session.execute("SELECT 1 FROM agents_run WHERE id = %s FOR UPDATE", [held.run.pk])
        held.add([text(0)])
        other.add([text(0)])
        finish(other)
        assert texts(held.run) == []
        session.rollback()
    finish(held)

    assert texts(held.run) == ["0"]
    assert stop.reason == ""


def test_dropped_connections_lose_and_double_nothing(writer: Writer) -> None:
    records = [record for record, _ in opened(writer, 4)]
    over = threading.Event()

    def talk(record: Record) -> int:
        number = 0
        while not over.wait(0.002):
            if not record.is_full:
                record.add([text(number), call(number)])
                number += 1
        finish(record)
        return number

    with ThreadPoolExecutor(4) as talking:
        said = [talking.submit(talk, record) for record in records]
        try:
            for _ in range(3):
                lines = RunEvent.objects.count()
                wait_until(lambda lines=lines: RunEvent.objects.count() > lines)
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
        finally:
            over.set()
        counts = [one.result() for one in said]

    for record, count in zip(records, counts, strict=True):
        run = Run.objects.get(pk=record.run.pk)
        events = list(RunEvent.objects.filter(run=run).order_by("seq"))
        assert [event.seq for event in events] == list(range(1, 2 * count + 1))
        assert run.last_seq == 2 * count
        assert [event.payload["text"] for event in events if event.kind == "text"] == numbers(count)
        called = AuditLog.objects.filter(action="tool.called", object_id=str(run.pk)).order_by("seq")
        assert [row.details["line"] for row in called] == list(range(2, 2 * count + 1, 2))


def test_a_database_that_hangs_holds_the_agents_up(writer: Writer) -> None:
    ((record, _),) = opened(writer, 1)

    async def say(release: threading.Event) -> None:
        said = 0
        while said < MOST_LINES:
            record.add([text(said)])
            said += 1
        assert record.is_full
        waiting = asyncio.create_task(record.room())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        release.set()
        async with asyncio.timeout(60):
            await waiting
        record.add([text(said)])
        await record.stored()

    release = threading.Event()

    def hang() -> None:
        with elsewhere() as session:
            session.execute("LOCK TABLE agents_runevent IN ACCESS EXCLUSIVE MODE")
            locked.set()
            release.wait(60)

    locked = threading.Event()
    hanging = threading.Thread(target=hang)
    hanging.start()
    locked.wait(60)
    try:
        asyncio.run(say(release))
    finally:
        release.set()
        hanging.join()

    assert texts(record.run) == numbers(MOST_LINES + 1)


KILLED = """
import sys, time
import django
django.setup()
from agents.models import Run
from agents.supervisor.keeper import Stop
from agents.supervisor.writer import Writer
from tests.agents.supervisor.test_writer import text
writer = Writer()
records = [writer.record(run, Stop()) for run in Run.objects.filter(pk__in=sys.argv[1:])]
number = 0
while True:
    for record in records:
        if not record.is_full:
            record.add([text(number)])
    number += 1
    time.sleep(0.002)
"""


def has_session(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s", [name]
        )
        return cursor.fetchone() is not None


def test_a_killed_process_leaves_whole_transcripts_that_another_goes_on_with(tmp_path: Path) -> None:
    made: list[Run] = [RunFactory(status="running") for _ in range(3)]
    env = environment(tmp_path, 1, 2) | {"PYTHONPATH": str(BASE_DIR), "PGAPPNAME": "killed"}
    command = [sys.executable, "-c", KILLED, *(str(run.pk) for run in made)]
    with subprocess.Popen(command, cwd=BASE_DIR, env=env) as process:
        try:
            wait_until(lambda: RunEvent.objects.filter(seq=100).exists() or process.poll() is not None)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
    connections.close_all()
    wait_until(lambda: not has_session("killed"))  # what it had sent is still done

    for run in made:
        run.refresh_from_db()
        left = texts(run)
        assert left == numbers(len(left))
        record_lines(run, [text(-1)])
        assert texts(run) == [*left, "-1"]


def test_a_connection_that_drops_after_the_commit_doubles_nothing(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held, _), (other, _) = opened(writer, 2)
    real, times = transcript._still_mine, iter([True])

    def dropped(of: Any) -> Any:
        if next(times, False):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                (pid,) = cursor.fetchone()
            with elsewhere() as session:
                session.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        return real(of)

    monkeypatch.setattr(transcript, "_still_mine", dropped)
    with elsewhere() as session:
        session.execute("SELECT 1 FROM agents_run WHERE id = %s FOR UPDATE", [held.run.pk])
        held.add([text(0)])
        other.add([text(0), text(1)])
        finish(other)
        session.rollback()
    finish(held)

    assert (texts(held.run), texts(other.run)) == (["0"], ["0", "1"])


def test_a_chain_that_is_somebody_elses_holds_up_its_calls_alone(writer: Writer) -> None:
    (one, _), (two, _) = opened(writer, 2)
    assert one.run.project_id != two.run.project_id
    one.add([call(0)])
    finish(one)
    with elsewhere() as session:
        session.execute("SELECT 1 FROM projects_auditchain WHERE key = %s FOR UPDATE", [str(one.run.project_id)])
        one.add([call(1)])
        two.add([text(0)])
        finish(two)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        try:
            assert leases.renew_leases([one.run.pk, two.run.pk], owner=two.run.lease_owner, now=NOW)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 0")
        assert RunEvent.objects.filter(run=one.run).count() == 1
        session.rollback()
    finish(one)
    assert AuditLog.objects.filter(action="tool.called", object_id=str(one.run.pk)).count() == 2


def test_the_writer_outlives_an_error_outside_of_storing(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, has_broken = writer_module.close_old_connections, threading.Event()

    def broken() -> None:
        if not has_broken.is_set():
            has_broken.set()
            raise OperationalError("the connection could not be given back")
        real()

    monkeypatch.setattr(writer_module, "close_old_connections", broken)
    (one, _), (two, _) = opened(writer, 2)
    one.add([text(0)])
    two.add([text(0)])
    finish(one, two)
    assert has_broken.wait(60), "it comes after what was stored"
    one.add([text(1)])
    finish(one)
    assert (texts(one.run), texts(two.run)) == (["0", "1"], ["0"])
