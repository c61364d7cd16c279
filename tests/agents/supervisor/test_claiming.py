import pytest

from agents.errors import LeaseLost
from agents.models import Run
from agents.states import RunStatus
from agents.supervisor import claiming
from projects.ids import new_id
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db


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
