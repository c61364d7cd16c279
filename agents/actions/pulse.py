"""The house's pulse: since when somebody has reached the database without a gap (docs/adr/0017-pulse-of-the-house.md).

A lease runs out when its owner died, and just so when nobody could renew it: the database was away or stood still, its
clock jumped, or the whole house slept. The rows of runs do not tell these apart. So every worker that beats, and every
sweep, notes here that it got through; and what was not renewed is taken for dead only after that has gone on for long
enough for everybody who lives to have come back.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from agents.models import Pulse

logger = logging.getLogger(__name__)

COMES_BACK = timedelta(seconds=30)
"""Longer than a living process takes to reach a database that is back. Its pool of connections tries again after 1, 2,
4, 8 and 16 s, and it renews every 2 s; supervisors give up after as long (`connections.PATIENCE_S`)."""

SWEEPS_MEET = timedelta(seconds=8)
"""No gap is shorter. A sweep comes every 5 s: where nobody else is left, each has to find the one before."""

_NOTE = """
UPDATE agents_pulse SET
    since = CASE WHEN %(now)s <= seen_at + gap THEN since ELSE %(now)s END,
    seen_at = greatest(seen_at, %(now)s)
FROM make_interval(secs => %(gap_s)s) AS gap
RETURNING since
"""
_BEGIN_ANEW = """
UPDATE agents_pulse SET since = %(now)s, seen_at = %(now)s
WHERE %(now)s < seen_at - make_interval(secs => %(gap_s)s)
"""


def note(*, now: datetime) -> datetime | None:
    """Note that the database was reached; return since when without a gap, or None before the first sweep of the house.

    `now` is the house's time, taken right before. After a gap of two fifths of a lease and `SWEEPS_MEET` at least, the
    pulse begins anew. After a shorter one everybody still has time to renew. A time before the last one is of somebody
    who was held up: it changes nothing.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, {"now": now, "gap_s": _gap().total_seconds()})
        row = cursor.fetchone()
    since: datetime | None = row[0] if row else None
    if since == now:
        logger.warning("nobody reached the database for a while, or its clock jumped: no lease runs out for now")
    return since


def is_steady(*, now: datetime) -> bool:
    """Note it, and return whether who did not renew by `now` is dead, and was not only kept from it.

    The time of a sweep that is further back than a gap is taken for the clock's having jumped back: the pulse begins
    anew, as it would stand in the future otherwise until the clock is there again.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_ANEW, {"now": now, "gap_s": _gap().total_seconds()})
    since = note(now=now)
    if since is None:
        Pulse.objects.bulk_create([Pulse(since=now, seen_at=now)], ignore_conflicts=True)
        return False
    return now - since >= max(_lease(), COMES_BACK)


def _gap() -> timedelta:
    return max(_lease() * 2 / 5, SWEEPS_MEET)


def _lease() -> timedelta:
    return timedelta(seconds=settings.EKLAVYA_LEASE_SECONDS)
