import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError, connection

from agents.models import Run
from agents.supervisor.keeper import LEASE_LOST, WORKER_STOPPING, LeaseKeeper, Stop
from projects.ids import new_id
from tests.agents.supervisor.line import wait_until
from tests.factories import NOW, RunFactory

LATER = NOW + timedelta(seconds=10)
LEASE = timedelta(seconds=20)


def keeper_at(now: datetime, beats: list[datetime] | None = None) -> LeaseKeeper:
    return LeaseKeeper("here", clock=lambda: now, on_beat=[].append if beats is None else beats.append)


def test_the_first_reason_to_stop_stays() -> None:
    stop = Stop()

    stop.set("paused")
    stop.set("over_budget")

    assert stop.reason == "paused"


def test_a_lost_lease_outdoes_every_other_reason() -> None:
    stop = Stop()

    stop.set("paused")
    stop.set(LEASE_LOST)
    stop.set("cancelled")

    assert stop.reason == LEASE_LOST


async def test_a_stop_of_another_thread_is_heard() -> None:
    stop = Stop()

    with stop.listening() as asked:
        asker = threading.Thread(target=stop.set, args=["paused"])
        asker.start()
        async with asyncio.timeout(10):
            await asked.wait()
        asker.join()

    assert stop.reason == "paused"


async def test_a_stop_that_came_before_is_heard() -> None:
    stop = Stop()
    stop.set("paused")

    with stop.listening() as asked:
        assert asked.is_set()


def test_a_stop_that_nobody_hears_is_kept() -> None:
    stop = Stop()

    async def listen() -> None:
        with stop.listening():
            pass

    asyncio.run(listen())
    stop.set("paused")

    assert stop.reason == "paused"


@pytest.mark.django_db
def test_a_beat_renews_all_leases_in_one_statement(django_assert_num_queries: object) -> None:
    runs = [RunFactory(status="running", lease_owner="here") for _ in range(5)]
    keeper = keeper_at(LATER)

    with ExitStack() as held:
        for run in runs[:3]:
            held.enter_context(keeper.hold(run.pk))
        held.enter_context(django_assert_num_queries(3))  # type: ignore[operator]  # leases, reasons, agents
        keeper.beat_once()

    renewed = Run.objects.filter(lease_until=LATER + LEASE).values_list("pk", flat=True)
    assert set(renewed) == {run.pk for run in runs[:3]}


@pytest.mark.django_db
def test_a_beat_without_runs_only_says_that_the_process_lives(django_assert_num_queries: object) -> None:
    beats: list[datetime] = []

    with django_assert_num_queries(0):  # type: ignore[operator]
        keeper_at(NOW, beats).beat_once()

    assert beats == [NOW]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "running", "lease_owner": "here"}, ""),
        ({"status": "running", "lease_owner": "here", "stop_requested": "paused"}, "paused"),
        ({"status": "running", "lease_owner": "elsewhere"}, LEASE_LOST),
        ({"status": "lost"}, LEASE_LOST),
    ],
)
def test_a_beat_passes_on_what_was_asked(fields: dict[str, str], reason: str) -> None:
    run = RunFactory(**fields)
    keeper = keeper_at(LATER)

    with keeper.hold(run.pk) as stop:
        keeper.beat_once()

    assert stop.reason == reason


@pytest.mark.django_db
def test_a_run_that_is_not_held_any_more_loses_nothing() -> None:
    keeper = keeper_at(LATER)
    with keeper.hold(new_id()) as stop:
        pass

    keeper.beat_once()

    assert stop.reason == ""


@pytest.mark.django_db
def test_a_worker_that_stops_asks_all_and_stays_silent() -> None:
    beats: list[datetime] = []
    keeper = keeper_at(LATER, beats)
    run = RunFactory(status="running", lease_owner="here")

    with keeper.hold(run.pk) as held:
        assert keeper.stop_all(WORKER_STOPPING) == 1
        keeper.beat_once()
        with keeper.hold(new_id()) as late:
            assert (held.reason, late.reason) == (WORKER_STOPPING, WORKER_STOPPING)

    run.refresh_from_db()
    assert run.lease_until == LATER + LEASE
    assert beats == []


@pytest.fixture
def beating() -> Iterator[tuple[LeaseKeeper, list[datetime]]]:
    """A keeper at work whose first beats fail."""
    beats: list[datetime] = []

    def on_beat(now: datetime) -> None:
        beats.append(now)
        if len(beats) == 1:
            raise OperationalError("the server is starting up")
        if len(beats) == 2:
            raise ValueError("anything else")

    keeper = LeaseKeeper("here", clock=lambda: NOW, on_beat=on_beat, interval_s=0.01)
    keeper.start()
    yield keeper, beats
    keeper.close()


def test_beats_survive_errors(beating: tuple[LeaseKeeper, list[datetime]]) -> None:
    wait_until(lambda: len(beating[1]) >= 3)


def test_close_ends_the_thread(beating: tuple[LeaseKeeper, list[datetime]]) -> None:
    keeper, beats = beating
    wait_until(lambda: beats)
    assert keeper._thread.is_alive()

    keeper.close()

    assert not keeper._thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_leases_are_renewed_after_a_lost_connection() -> None:
    run = RunFactory(status="running", lease_owner="here", lease_until=NOW)
    keeper = LeaseKeeper("here", clock=lambda: LATER, on_beat=lambda now: None, interval_s=0.01)
    keeper.start()
    try:
        with keeper.hold(run.pk) as stop:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            Run.objects.filter(pk=run.pk).update(lease_until=NOW)
            wait_until(lambda: Run.objects.filter(pk=run.pk, lease_until=LATER + LEASE).exists())
            assert stop.reason == ""
    finally:
        keeper.close()
