import pytest

from agents.gateway.api_errors import ApiError
from agents.gateway.limits import Pace, Places
from projects.ids import new_id


def test_place_is_free_again_after_a_request_failed() -> None:
    places, run = Places(1), new_id()
    with pytest.raises(RuntimeError), places.take(run):
        raise RuntimeError

    with places.take(run) as under_way:
        assert under_way == 1


def test_places_are_counted_for_each_run() -> None:
    places, run = Places(1), new_id()
    with places.take(run), places.take(new_id()):
        with pytest.raises(ApiError) as refused, places.take(run):
            pass
        assert (refused.value.status, refused.value.retry_after_s) == (429, 1)


def test_pace_begins_anew_each_minute() -> None:
    now = 45.0
    pace, run = Pace(2, clock=lambda: now), new_id()
    pace.count(run)
    pace.count(run)
    pace.count(new_id())

    with pytest.raises(ApiError) as refused:
        pace.count(run)
    assert refused.value.retry_after_s == 15
    now = 60.0
    pace.count(run)
