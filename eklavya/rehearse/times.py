"""Where a project's time went: how much of it some agent's process, or a test of the platform's, was at work."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Max

from agents.models import RunEvent, Verification
from projects.models import AuditLog, Project

Span = tuple[datetime, datetime]


def covered(spans: Iterable[Span]) -> timedelta:
    """Return how long at least one of the spans lasts: what overlaps counts once."""
    total, reached = timedelta(0), None
    for begin, end in sorted(spans):
        if reached is None or begin > reached:
            total += end - begin
            reached = end
        elif end > reached:
            total += end - reached
            reached = end
    return total


def sessions(project: Project) -> list[Span]:
    """Return from when to when each run's Claude Code process was at work: its start to the last thing it said."""
    said = RunEvent.objects.filter(run__project=project).values("run_id").annotate(last=Max("created_at"))
    last = {str(row["run_id"]): row["last"] for row in said}
    begun = AuditLog.objects.filter(project_id=project.pk, action="run.running").values_list("object_id", "timestamp")
    return [(begin, last[run_id]) for run_id, begin in begun if run_id in last]


def checks(project: Project) -> list[Span]:
    """Return from when to when each verification's tests ran."""
    seen = Verification.objects.filter(project=project).values_list("created_at", "duration_s")
    return [(end - timedelta(seconds=float(seconds)), end) for end, seconds in seen]


def busy_s(project: Project) -> float:
    """Return for how many seconds an agent's process, or the platform's own run of the tests, was at work."""
    return covered([*sessions(project), *checks(project)]).total_seconds()
