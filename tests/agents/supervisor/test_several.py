import threading
from itertools import count

import pytest

from agents.actions.leases import Held
from agents.models import Run
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.several import supervise_all
from projects.ids import new_id
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT_S = 30


@pytest.fixture
def keeper() -> LeaseKeeper:
    return LeaseKeeper("here", clock=lambda: NOW, on_beat=lambda _: None)


def test_the_runs_of_a_message_are_done_side_by_side_until_all_have_ended(keeper: LeaseKeeper) -> None:
    made = RunFactory.create_batch(3)
    all_there = threading.Barrier(3, timeout=LIMIT_S)
    done: list[Run] = []

    def supervise(held: Held) -> None:
        all_there.wait()  # broken unless they work at a time
        done.append(held.run)

    supervise_all([*(run.pk for run in made), new_id()], keeper=keeper, clock=lambda: NOW, supervise=supervise)

    assert set(done) == set(made)
    assert set(Run.objects.values_list("lease_owner", flat=True)) == {"here"}


def test_a_run_that_breaks_waits_for_the_others(keeper: LeaseKeeper) -> None:
    made = RunFactory.create_batch(2)
    done: list[Run] = []

    def supervise(held: Held) -> None:
        if threading.current_thread() is threading.main_thread():
            raise ZeroDivisionError
        done.append(held.run)

    with pytest.raises(ZeroDivisionError):
        supervise_all([run.pk for run in made], keeper=keeper, clock=lambda: NOW, supervise=supervise)

    assert len(done) == 1


def test_what_others_have_is_left_to_them(keeper: LeaseKeeper) -> None:
    run = RunFactory(lease_owner="elsewhere", lease_until=NOW)

    supervise_all([run.pk], keeper=keeper, clock=lambda: NOW, supervise=pytest.fail)

    assert Run.objects.get().lease_owner == "elsewhere"


def test_where_no_thread_can_be_had_the_others_are_done(
    keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = RunFactory.create_batch(3)
    start, begun, done = threading.Thread.start, count(), list[Held]()

    def limited(thread: threading.Thread) -> None:
        if next(begun) == 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    supervise_all([run.pk for run in made], keeper=keeper, clock=lambda: NOW, supervise=done.append)

    assert len(done) == 2
    assert "no room for another thread" in caplog.text
