"""When the model's API is away: a run that ends of it costs its task no attempt, and is tried again later and later."""

from datetime import datetime, timedelta
from uuid import UUID

from agents.models import Run
from projects.actions import chat
from projects.actors import Actor
from projects.jsontext import storable_text
from projects.models import Notification

MODEL_OUTAGE = "model_outage"
# Ends that an API which does not answer can have.
_CAUSED = frozenset({"model_error", "stalled", "cli_failed", "wall_clock", "no_outcome"})
_FIRST_DELAY = timedelta(seconds=30)
_LONGEST_DELAY = timedelta(minutes=15)
_TOLD_AGAIN = timedelta(hours=1)
# About two and a half hours of outage in a row; then each costs an attempt, and in the end a person is asked.
MAX_OUTAGES = 14


def note_silence(run_id: UUID, *, now: datetime) -> None:
    """Note that the model's API left a run's request without an answer. The first time stands until one comes."""
    Run.objects.filter(pk=run_id, model_silent_since__isnull=True).update(model_silent_since=now)


def is_outage(run: Run, reason: str) -> bool:
    """Whether a run that is ending for `reason` really ends because the model's API is away."""
    return reason in _CAUSED and run.model_silent_since is not None


def sentence(run: Run, said: str) -> str:
    """Say for people why such a run ended, and what comes next."""
    assert run.model_silent_since is not None
    since = f"{run.model_silent_since:%d %B, %H:%M} UTC"
    text = f"The model's API has not answered since {since}. The task is tried again by itself, later each time."
    return storable_text(f"{text} Last it said: {said}" if said else text, max_chars=2_000)


def delay_of(run: Run) -> tuple[timedelta, bool]:
    """Return after how long the run's task is tried again, and whether that costs it an attempt."""
    before = in_a_row(run, MODEL_OUTAGE, most=MAX_OUTAGES)
    return later(before), before >= MAX_OUTAGES


def tell(run: Run, detail: str, *, by: Actor, now: datetime) -> None:
    """Tell people of a project, where they are, that the model is away: once an hour, however many runs end of it."""
    lately = run.project.runs.exclude(pk=run.pk).filter(reason=MODEL_OUTAGE, finished_at__gt=now - _TOLD_AGAIN)
    if not lately.exists():
        level = Notification.Level.WARNING
        chat.notify(run.project, level=level, title="The model does not answer", message=detail, by=by, now=now)


def later(before: int) -> timedelta:
    """Return how long to wait for what others must mend, when so many runs in a row ended of it before."""
    delay: timedelta = min(_FIRST_DELAY * 2 ** min(before, 10), _LONGEST_DELAY)
    return delay


def in_a_row(run: Run, reason: str, *, most: int) -> int:
    """Count the runs of its task before this one that ended so, back to one that did not; at most `most`."""
    count = 0
    for ended in run.task.runs.exclude(pk=run.pk).order_by("-attempt").values_list("reason", flat=True)[:most]:
        if ended != reason:
            break
        count += 1
    return count
