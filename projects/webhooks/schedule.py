"""When a failed delivery is tried again: after 10 s, then three times as long each time, 6 h at most, ±20 %."""

import random
from datetime import datetime, timedelta

_FIRST_S = 10
_FACTOR = 3
_LONGEST_S = 6 * 3600
# So that what failed together does not come back together.
_JITTER = 0.2


def next_attempt(attempts: int, *, retry_after_s: int = 0, now: datetime) -> datetime:
    """Return when to try again after so many attempts, not before the receiver asked for it (Retry-After)."""
    # the exponent is bounded: 3 ** 20 is beyond the longest anyway
    delay_s = min(_FIRST_S * _FACTOR ** min(attempts - 1, 20), _LONGEST_S)
    delay_s *= random.uniform(1 - _JITTER, 1 + _JITTER)
    return now + timedelta(seconds=max(delay_s, min(retry_after_s, _LONGEST_S)))
