"""How long transcripts are kept: a week at a time is dropped, and the audit log says which."""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import OperationalError

from agents import partitions
from agents.models import Run
from agents.partitions import Partition
from agents.states import ACTIVE_RUN
from projects import audit
from projects.actors import Actor

logger = logging.getLogger(__name__)

ARCHIVIST = Actor.system("archivist")


def expired(*, now: datetime) -> list[Partition]:
    """Return the weeks that are past EKLAVYA_TRANSCRIPT_DAYS, oldest first. None while a run of theirs is at work."""
    if not settings.EKLAVYA_TRANSCRIPT_DAYS:
        return []
    before = now - timedelta(days=settings.EKLAVYA_TRANSCRIPT_DAYS)
    old = [week for week in partitions.partitions() if week.ends_at <= before]
    at_work = Run.objects.filter(status__in=ACTIVE_RUN).order_by("id").values_list("id", flat=True).first()
    return [week for week in old if at_work is None or week.end <= at_work]


def prune_transcripts(*, now: datetime) -> list[str]:
    """Drop the weeks that are past their time, each in its transaction, and return their names.

    Only the owner of the tables may: see docs/operations.md. One that is in use is left for the next time.
    """
    dropped = []
    for week in expired(now=now):
        try:
            with audit.journal(by=ARCHIVIST, now=now) as journal:
                details = {"partition": week.name, "until": week.ends_at.isoformat(), "lines": partitions.count(week)}
                partitions.drop(week)
                journal.add("transcripts.pruned", details=details)
        except OperationalError as error:
            logger.warning("%s is in use and stays for now: %s", week.name, error)
        else:
            dropped.append(week.name)
    return dropped
