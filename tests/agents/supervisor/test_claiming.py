from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import count

import pytest
from django.db import OperationalError, connection, transaction

from agents.actions import leases
from agents.actions.leases import Held
from agents.errors import LeaseLost
from agents.models import Run
from agents.states import RunStatus
from agents.supervisor import claiming
from projects.ids import new_id
from projects.models import Task
from projects.states import TaskStatus
from tests.agents.supervisor.line import wait_until
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db
LIMIT_S = 30


def hold(run: Run) -> Run:
    return claiming.hold_all([run.pk], owner="here", clock=lambda: NOW)[0].run


def test_of_many_runs_those_are_held_that_are_there_and_free() -> None:
    free, ended, theirs = RunFactory(), RunFactory(status="failed"), RunFactory()
    claiming.hold_all([theirs.pk], owner="there", clock=lambda: NOW)

    held = claiming.hold_all([free.pk, ended.pk, theirs.pk, new_id()], owner="here", clock=lambda: NOW)

    assert [one.run for one in held] == [free]
    assert Run.objects.get(pk=theirs.pk).lease_owner == "there"


def test_more_than_go_at_once_are_held_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "AT_ONCE", 2)
    made = RunFactory.create_batch(5)

    held = claiming.hold_all([run.pk for run in made], owner="here", clock=lambda: NOW)

    assert {one.run for one in held} == set(made)


def test_who_does_not_know_whether_it_claimed_finds_out() -> None:
    held = hold(RunFactory())
    claiming.claim(held, clock=lambda: NOW)

    again = claiming.claim(held, clock=lambda: NOW, is_again=True)

    assert again.status == RunStatus.STARTING
    Run.objects.filter(pk=again.pk).update(token_hash="f" * 64)
    with pytest.raises(LeaseLost):
        claiming.claim(held, clock=lambda: NOW, is_again=True)


def test_claiming_with_others_says_whose_run_is_lost() -> None:
    mine, lost = (hold(RunFactory()) for _ in range(2))
    Run.objects.filter(pk=lost.pk).update(lease_owner="elsewhere")

    assert claiming._claim([(mine, NOW), (lost, NOW)]) == [True, False]
    with pytest.raises(LeaseLost):
        claiming.claim(lost, clock=lambda: NOW)


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_the_task_of_another() -> None:
    stuck, free = (hold(RunFactory()) for _ in range(2))

    def claim(run: Run) -> Run:
        try:
            return claiming.claim(run, clock=lambda: NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():
            Task.objects.select_for_update().get(pk=stuck.task_id)
            waiting = pool.submit(claim, stuck)
            assert pool.submit(claim, free).result(LIMIT_S).status == RunStatus.STARTING
            assert not waiting.done()
        assert waiting.result(LIMIT_S).status == RunStatus.STARTING


def test_a_claim_that_cannot_be_takes_no_other_with_it() -> None:
    mine, finished = (hold(RunFactory()) for _ in range(2))
    finished.task.status = TaskStatus.COMPLETED  # as a stale object would have it

    assert claiming._claim([(finished, NOW), (mine, NOW)]) == [False, False]
    assert claiming.claim(mine, clock=lambda: NOW, is_again=True).status == RunStatus.STARTING


def test_what_is_held_is_done_though_the_rest_could_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "AT_ONCE", 2)
    made, hold_runs, calls = RunFactory.create_batch(3), leases.hold_runs, count()

    def breaks(queued: Sequence[Run], *, owner: str, now: datetime) -> list[Held]:
        if next(calls) > 0:
            raise OperationalError("server closed the connection unexpectedly")
        return hold_runs(queued, owner=owner, now=now)

    monkeypatch.setattr(leases, "hold_runs", breaks)
    held = claiming.hold_all([run.pk for run in made], owner="here", clock=lambda: NOW)

    assert {one.run for one in held} == set(Run.objects.exclude(lease_owner=""))
    assert len(held) == 2
    with pytest.raises(OperationalError):
        claiming.hold_all([made[2].pk], owner="here", clock=lambda: NOW)


def test_what_is_held_is_done_though_nobody_says_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFactory()

    def breaks(queued: Sequence[Run]) -> list[Run]:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(leases, "unheld", breaks)

    assert [one.run for one in claiming.hold_all([run.pk], owner="here", clock=lambda: NOW)] == [run]


@pytest.mark.django_db(transaction=True)
def test_holding_many_waits_for_one_at_a_time() -> None:
    first, second = RunFactory.create_batch(2)

    def hold_both() -> list[Held]:
        try:
            return claiming.hold_all([first.pk, second.pk], owner="here", clock=lambda: NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Run.objects.filter(pk=second.pk).update(stop_requested="worker_draining")
            holding = pool.submit(hold_both)
            wait_until(lambda: Run.objects.filter(pk=first.pk, lease_owner="here").exists())
            Run.objects.filter(pk=first.pk).update(stop_requested="worker_draining")  # no deadlock
        assert {one.run for one in holding.result(LIMIT_S)} == {first, second}
