"""A day on which nobody decides anything, at its exact schedules where something may happen, and by the hour between.

`make idle` does all of it at its exact schedules (idle_day.py): that takes minutes.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from agents.models import Run
from billing.models import Reservation
from projects.models import AuditLog
from tests.eklavya.idling import (
    HINTS,
    HOUR,
    Counted,
    House,
    assert_counted,
    house,
    model,
    row_counts,
    standbys,
)

__all__ = ["house", "model", "standbys"]

pytestmark = pytest.mark.django_db(transaction=True)
# Midnight is the end of a month, and in New York the clocks are set back at six (UTC).
BEGIN = datetime(2026, 10, 31, 16, tzinfo=UTC)
MIDNIGHT, CLOCKS_SET_BACK = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)
AROUND = timedelta(seconds=30)


@pytest.mark.cli
def test_an_idle_day_asks_no_model_and_adds_no_row(model: Counted, house: Callable[..., House]) -> None:
    made = house(BEGIN)
    with made.on_its_clock():
        made.live(BEGIN)
        made.doze(BEGIN + 2 * HOUR)  # what was left over is found, and what people must hear of is told, once
        since, before, runs = made.now, row_counts(), Run.objects.count()
        made.sent()

        made.live(made.now + timedelta(minutes=5))
        for moment in (MIDNIGHT, CLOCKS_SET_BACK, since + 24 * HOUR):
            made.doze(moment - AROUND)
            made.live(moment + AROUND)

        newest = AuditLog.objects.filter(timestamp__gt=since).values_list("action", flat=True)
        assert row_counts() == before, sorted(newest)
        assert (Run.objects.count(), Reservation.objects.count()) == (runs, 0)
        assert set(made.sent()) <= HINTS
        made.assert_alive()
        assert model.requests == 0
    assert min(cost.calls for cost in made.costs.values()) >= 25

    assert_counted(model)
