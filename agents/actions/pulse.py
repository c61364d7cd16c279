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
    since = CASE WHEN %(now)s BETWEEN seen_at - gap AND seen_at + gap THEN since ELSE %(now)s END,
    seen_at = CASE WHEN %(now)s BETWEEN seen_at - gap AND seen_at THEN seen_at ELSE %(now)s END
FROM make_interval(secs => %(gap_s)s) AS gap
RETURNING since
"""


def note(*, now: datetime) -> datetime | None:
    """Note that the database was reached; return since when without a gap, or None before the first sweep of the house.

    `now` is the house's time, taken before. After a gap of two fifths of a lease and `SWEEPS_MEET` at least, in
    either direction of time, the pulse begins anew. After a shorter one everybody still has time to renew.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, {"now": now, "gap_s": _gap().total_seconds()})
        row = cursor.fetchone()
    since: datetime | None = row[0] if row else None
    if since == now:
        logger.warning("nobody reached the database for a while, or its clock jumped: no lease runs out for now")
    return since


def is_steady(*, now: datetime) -> bool:
    """Note it, and return whether who did not renew by `now` is dead, and was not only kept from it."""
    since = note(now=now)
    if since is None:
        Pulse.objects.bulk_create([Pulse(since=now, seen_at=now)], ignore_conflicts=True)
        return False
    return now - since >= max(_lease(), COMES_BACK)


def _gap() -> timedelta:
    return max(_lease() * 2 / 5, SWEEPS_MEET)


def _lease() -> timedelta:
    return timedelta(seconds=settings.EKLAVYA_LEASE_SECONDS)
