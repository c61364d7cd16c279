"""When the platform itself fails a run: a disk that is full, Git that takes too long, a sandbox that does not start.

The task is not to blame, so it loses no attempt and is tried again later and later; what its agent made so far is gone
on from. A task in which that keeps happening may be why: then each costs an attempt, and in the end a person is asked.
"""

from datetime import timedelta

from agents.actions import outages
from agents.actions.verbs import ENDINGS
from agents.models import Run, RunEvent
from projects.models import AuditLog
from projects.states import TaskKind

PLATFORM_ERROR = "platform_error"
# About a quarter of an hour, and as often as a machine may die under a task.
MAX_FAULTS = 14
# By so much the clocks of a gateway and of a worker may differ.
_CLOCKS = timedelta(seconds=5)


def excuse(run: Run) -> None:
    """Note that a run's agent gave up right after the platform had left it without an answer: it is not to blame."""
    outcome = Run.objects.values_list("outcome", flat=True).get(pk=run.pk)
    Run.objects.filter(pk=run.pk).update(outcome=outcome | {"unserved": True})


def is_excused(run: Run) -> bool:
    """Whether it was noted so."""
    return bool(run.outcome.get("unserved"))


def was_unanswered(run: Run) -> bool:
    """Whether its agent tried to end the run, in the way of its task's kind, and the platform failed to answer.

    The transcript has the last such call and that it failed. What a rule refused is in the audit log, and the agent's
    own doing. A transcript is the word of the agent's program: who makes one up wins MAX_FAULTS tries at most.
    """
    verbs = [f"mcp__eklavya__{verb}" for verb in ENDINGS[TaskKind(run.task.kind)]]
    events = RunEvent.objects.filter(run=run)
    call = events.filter(kind=RunEvent.Kind.TOOL_USE, payload__name__in=verbs).order_by("-seq").first()
    if call is None:
        return False
    answer = events.filter(kind=RunEvent.Kind.TOOL_RESULT, seq__gt=call.seq, payload__id=call.payload["id"]).first()
    if answer is not None and not answer.payload["is_error"]:
        return False
    since = call.created_at - _CLOCKS
    rows = AuditLog.objects.filter(object_type="run", object_id=str(run.pk))
    refused = rows.filter(action="mcp.refused", timestamp__gte=since).exclude(details__has_key="unserved")
    return not refused.exists() and not rows.filter(action="mcp.rate_limited").exists()


def delay_of(run: Run) -> tuple[timedelta | None, bool]:
    """Return after how long the run's task is tried again (None: as after any failure), and whether that costs it an
    attempt."""
    before = outages.in_a_row(run, PLATFORM_ERROR, most=MAX_FAULTS)
    return (None, True) if before >= MAX_FAULTS else (outages.later(before), False)
