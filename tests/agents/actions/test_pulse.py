"""A lease that nobody could renew does not run out."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from pytest_django import Settings

from agents.actions import pulse
from agents.models import Pulse
from tests.factories import NOW, PulseFactory

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
# With leases of 20 s.
GAP = 8 * SECOND


def test_it_begins_with_the_first_who_gets_through() -> None:
    assert not pulse.is_steady(now=NOW)

    row = Pulse.objects.get()
    assert (row.since, row.seen_at) == (NOW, NOW)


def test_who_lives_has_come_back_after_thirty_seconds_without_a_gap() -> None:
    said = [pulse.is_steady(now=NOW + n * SECOND) for n in range(0, 36, 5)]

    assert said == [False] * 6 + [True] * 2


def test_long_leases_have_to_pass_whole(settings: Settings) -> None:
    settings.EKLAVYA_LEASE_SECONDS = 60

    said = [pulse.is_steady(now=NOW + n * SECOND) for n in range(0, 75, 10)]

    assert said == [False] * 6 + [True] * 2


@pytest.mark.parametrize("lease_s", [10, 12, 20])
def test_sweeps_alone_keep_it(settings: Settings, lease_s: int) -> None:
    settings.EKLAVYA_LEASE_SECONDS = lease_s

    said = [pulse.is_steady(now=NOW + n * SECOND) for n in range(0, 36, 5)]

    assert said == [False] * 6 + [True] * 2


def test_one_worker_that_notes_late_keeps_nobody_from_it() -> None:
    said = []
    for n in range(60):
        now = NOW + n * SECOND
        if n % 2 == 0:
            pulse.note(now=now)  # a worker that is well
        if n % 12 == 0:
            pulse.note(now=now - GAP - SECOND)  # one that was held up since it read the time
        if n % 5 == 0:
            said.append(pulse.is_steady(now=now))

    assert said == [False] * 6 + [True] * 6


@pytest.mark.parametrize("jump", [GAP + SECOND, timedelta(days=2), -GAP - SECOND, -timedelta(days=2)], ids=str)
def test_it_begins_anew_after_a_gap_and_where_the_clock_jumped(jump: timedelta) -> None:
    PulseFactory(seen_at=NOW)

    assert not pulse.is_steady(now=NOW + jump)

    row = Pulse.objects.get()
    assert (row.since, row.seen_at) == (NOW + jump, NOW + jump)


def test_a_short_pause_is_no_gap() -> None:
    PulseFactory(seen_at=NOW)

    assert pulse.is_steady(now=NOW + GAP)
    assert Pulse.objects.get().seen_at == NOW + GAP


def test_a_worker_alone_begins_none() -> None:
    """It may beat where nobody sweeps, and only who sweeps asks."""
    assert pulse.note(now=NOW) is None
    assert not Pulse.objects.exists()


def test_who_is_a_moment_behind_moves_nothing_back() -> None:
    PulseFactory(seen_at=NOW)

    assert pulse.is_steady(now=NOW - SECOND)
    assert Pulse.objects.get().seen_at == NOW


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [({"id": 2}, "pulse_one_row"), ({"since": NOW + SECOND}, "pulse_in_order")],
)
def test_the_database_refuses_what_no_pulse_is(fields: dict[str, object], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        PulseFactory(**{"seen_at": NOW} | fields)
