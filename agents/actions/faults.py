"""When the platform itself fails a run: a disk that is full, Git that takes too long, a sandbox that does not start.

The task is not to blame, so it loses no attempt and is tried again later and later; what its agent made so far is gone
on from. A task in which that keeps happening may be why: then each costs an attempt, and in the end a person is asked.
"""

from datetime import timedelta

from agents.actions import outages
from agents.actions.verbs import ENDINGS
from agents.gateway.unserved import SENTENCES
from agents.models import Run, RunEvent
from projects.models import AuditLog
from projects.states import TaskKind

PLATFORM_ERROR = "platform_error"
# About a quarter of an hour, and as often as a machine may die under a task.
MAX_FAULTS = 14
_PREFIX = "mcp__eklavya__"
# With this the agent's program begins what it says of an answer that is no result; the answer follows.
_STATUS = "Error POSTing to endpoint"


def excuse(run: Run) -> None:
    """Note that a run's agent gave up right after the platform had left it without an answer: it is not to blame."""
    outcome = Run.objects.values_list("outcome", flat=True).get(pk=run.pk)
    Run.objects.filter(pk=run.pk).update(outcome=outcome | {"unserved": True})


def is_excused(run: Run) -> bool:
    """Whether it was noted so."""
    return bool(run.outcome.get("unserved"))


def was_unanswered(run: Run) -> bool:
    """Whether its agent tried to end the run, in the way of its task's kind, and the platform failed to answer.

    The transcript has the last such call, and what it was told: one of the platform's own sentences for that, and not
    a rule's or its own program's. A transcript is the word of the agent's program. The audit log speaks against who
    makes one up after a refusal; whoever was not refused wins MAX_FAULTS tries at most.
    """
    verbs = [f"{_PREFIX}{verb}" for verb in ENDINGS[TaskKind(run.task.kind)]]
    events = RunEvent.objects.filter(run=run)
    call = events.filter(kind=RunEvent.Kind.TOOL_USE, payload__name__in=verbs).order_by("-seq").first()
    if call is None:
        return False
    told = events.filter(kind=RunEvent.Kind.TOOL_RESULT, seq__gt=call.seq, payload__id=call.payload["id"]).first()
    if told is None or not told.payload["is_error"] or not _is_ours(told.payload["content"]):
        return False
    rows = AuditLog.objects.filter(object_type="run", object_id=str(run.pk))
    verb = call.payload["name"].removeprefix(_PREFIX)
    refused = rows.filter(action="mcp.refused", details__verb=verb).exclude(details__has_key="unserved")
    return not refused.exists() and not rows.filter(action="mcp.rate_limited").exists()


def _is_ours(content: str) -> bool:
    """Whether the platform said so: as the result of the verb, or as a status of HTTP."""
    if content.startswith(_STATUS):
        return any(sentence in content for sentence in SENTENCES)
    return content in SENTENCES


def delay_of(run: Run) -> tuple[timedelta | None, bool]:
    """Return after how long the run's task is tried again (None: as after any failure), and whether that costs it an
    attempt."""
    before = outages.in_a_row(run, PLATFORM_ERROR, most=MAX_FAULTS)
    return (None, True) if before >= MAX_FAULTS else (outages.later(before), False)
