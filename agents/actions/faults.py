"""When the platform itself fails a run: a disk that is full, Git that takes too long, a sandbox that does not start.

The task is not to blame, so it loses no attempt and is tried again later and later; what its agent made so far is gone
on from. A task in which that keeps happening may be why: then each costs an attempt, and in the end a person is asked.
"""

from datetime import timedelta

from agents.actions import outages
from agents.models import Run

PLATFORM_ERROR = "platform_error"
# About a quarter of an hour, and as often as a machine may die under a task.
MAX_FAULTS = 14


def excuse(run: Run) -> None:
    """Note that a run's agent gave up right after the platform had left it without an answer: it is not to blame."""
    outcome = Run.objects.values_list("outcome", flat=True).get(pk=run.pk)
    Run.objects.filter(pk=run.pk).update(outcome=outcome | {"unserved": True})


def is_excused(run: Run) -> bool:
    """Whether it was noted so."""
    return bool(run.outcome.get("unserved"))


def delay_of(run: Run) -> tuple[timedelta | None, bool]:
    """Return after how long the run's task is tried again (None: as after any failure), and whether that costs it an
    attempt."""
    before = outages.in_a_row(run, PLATFORM_ERROR, most=MAX_FAULTS)
    return (None, True) if before >= MAX_FAULTS else (outages.later(before), False)
