from itertools import repeat

import pytest

from agents.errors import LeaseLost
from agents.models import Run
from agents.states import RunStatus
from agents.supervisor import claiming
from projects.ids import new_id
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db


def test_of_many_who_hold_at_once_one_gets_each_run() -> None:
    first, second, ended = RunFactory(), RunFactory(), RunFactory(status="failed")
    asked = [(run.pk, owner, NOW) for run in (first, second, ended) for owner in ("here", "here", "there")]

    held = claiming._hold([*asked, (new_id(), "here", NOW)])

    got = [one for one in held if one is not None]
    assert sorted(one.run.pk for one in got) == sorted([first.pk, second.pk])
    assert Run.objects.exclude(lease_owner="").count() == 2
    assert {one.run.lease_owner for one in got} <= {"here", "there"}
    assert held[6:] == list(repeat(None, 4))


def test_who_does_not_know_whether_it_claimed_finds_out() -> None:
    held = claiming.hold(RunFactory().pk, owner="here", clock=lambda: NOW)
    claiming.claim(held.run, clock=lambda: NOW)

    again = claiming.claim(held.run, clock=lambda: NOW, is_again=True)

    assert again.status == RunStatus.STARTING
    Run.objects.filter(pk=again.pk).update(token_hash="f" * 64)
    with pytest.raises(LeaseLost):
        claiming.claim(held.run, clock=lambda: NOW, is_again=True)


def test_claiming_with_others_says_whose_run_is_lost() -> None:
    mine, lost = (claiming.hold(RunFactory().pk, owner="here", clock=lambda: NOW).run for _ in range(2))
    Run.objects.filter(pk=lost.pk).update(lease_owner="elsewhere")

    assert claiming._claim([(mine, NOW), (lost, NOW)]) == [True, False]
    with pytest.raises(LeaseLost):
        claiming.claim(lost, clock=lambda: NOW)
