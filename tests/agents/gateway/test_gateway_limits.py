import pytest

from agents.gateway.api_errors import ApiError
from agents.gateway.limits import Buckets, Places
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


def test_bucket_gives_a_burst_and_fills_again() -> None:
    now = 45.0
    buckets, run = Buckets(60, burst=3, clock=lambda: now), new_id()
    assert [buckets.take(run) for _ in range(3)] == [0, 0, 0]
    assert buckets.take(run) == 1
    assert buckets.take(new_id()) == 0

    now = 45.5
    assert buckets.take(run) == 0.5
    now = 46.0
    assert buckets.take(run) == 0
    assert buckets.take(run) > 0
    now = 1_000.0
    assert [buckets.take(run) == 0 for _ in range(4)] == [True, True, True, False]


def test_buckets_of_the_quiet_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.gateway.limits._MOST_REMEMBERED", 5)
    now = 0.0
    buckets = Buckets(60, burst=3, clock=lambda: now)
    for second in range(100):
        now = float(second)
        buckets.take(new_id())

    assert len(buckets._levels) <= 6
