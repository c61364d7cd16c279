"""A whole day on which nobody decides anything, all of it at its exact schedules: `make idle`. Prints what it cost."""

import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from pytest_django import Settings

from agents.models import Run
from billing.models import Reservation
from tests.eklavya.idling import HINTS, HOUR, Counted, House, assert_counted, house, model, row_counts, standbys
from tests.eklavya.test_idle_night import BEGIN

__all__ = ["house", "model", "standbys"]

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True), pytest.mark.timeout(4 * 3600)]


@pytest.mark.parametrize(("beats", "hours"), [(1, 24), (2, 2)], ids=["a-day", "two-hours-with-two-beats-that-send"])
def test_nobody_decides_anything(
    beats: int,
    hours: int,
    model: Counted,
    house: Callable[..., House],
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings.TIME_ZONE = "America/New_York"  # whose clocks are set back in that night
    made = house(BEGIN, beats=beats)
    sent: Counter[str] = Counter()
    with made.on_its_clock():
        made.live(BEGIN)
        made.doze(BEGIN + 2 * HOUR)
        before, runs = row_counts(), Run.objects.count()
        made.sent()
        for cost in made.costs.values():
            cost.calls, cost.statements, cost.cpu_s = 0, 0, 0.0

        since = made.now
        while made.now < since + hours * HOUR:
            made.live(made.now + timedelta(minutes=30))
            sent += made.sent()
            after = row_counts()
            assert after == before, {name: (before[name], n) for name, n in after.items() if n != before[name]}

        assert (Run.objects.count(), Reservation.objects.count()) == (runs, 0)
        assert set(sent) <= HINTS
        made.assert_alive()
        assert model.requests == 0
        said = report(made, since.isoformat(), sent, before, model)
    with capsys.disabled():
        sys.stdout.write(f"{said}\n")

    assert_counted(model)


def report(made: House, since: str, sent: Counter[str], rows: dict[str, int], model: Counted) -> str:
    """Return what happened, for people."""
    lines = [
        f"\nFrom {since} to {made.now.isoformat()}, beats that send: {made.beats}",
        f"requests to the model: {model.requests}",
        f"rows: {sum(rows.values()) - rows['tables']} in {len(rows) - 1} tables, as many as before in each",
        f"messages to other machines: {dict(sent)}",
    ]
    for name, cost in sorted(made.costs.items(), key=lambda item: -item[1].cpu_s):
        calls = max(cost.calls, 1)
        each = f"{cost.statements / calls:5.1f} statements, {cost.cpu_s / calls * 1000:6.1f} ms each"
        lines.append(f"{name:36} {cost.calls:6} times, {each}, {cost.cpu_s:7.1f} s of processor time")
    return "\n".join(lines)
