from datetime import UTC, datetime

import pytest

from eklavya.rehearse.times import Span, covered


def span(begin: int, end: int) -> Span:
    return datetime(2026, 3, 1, 12, 0, begin, tzinfo=UTC), datetime(2026, 3, 1, 12, 0, end, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([span(1, 4)], 3),
        ([span(1, 4), span(2, 3)], 3),
        ([span(5, 7), span(1, 4)], 5),
        ([span(1, 4), span(3, 9), span(9, 10)], 9),
    ],
)
def test_covered_counts_what_overlaps_once(spans: list[Span], seconds: int) -> None:
    assert covered(spans).total_seconds() == seconds
