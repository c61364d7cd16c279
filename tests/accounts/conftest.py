"""What tests of accounts share."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _no_counters_left() -> Iterator[None]:
    """Rate limits are counted in Redis, which no transaction rolls back."""
    cache.clear()
    yield
    cache.clear()
