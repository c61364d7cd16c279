"""Where a project's time went: how much of it some agent's process, or a test of the platform's, was at work."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from agents.models import Run, Verification
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


def sessions(project: Project) -> Iterator[Span]:
    """Return from when to when each run's Claude Code process was at work: its boot, and its run to its last moment.

    One that was up before there was a run for it waited in between, which is no work.
    """
    running = dict(
        AuditLog.objects.filter(project_id=project.pk, action="run.running").values_list("object_id", "timestamp")
    )
    for run in Run.objects.filter(project=project).order_by("created_at"):
        began, up, ended = run.program_began_at, run.program_up_at, run.program_ended_at
        if began and up and ended:
            yield began, up
            if told := running.get(str(run.pk)):
                yield max(told, up), ended


def checks(project: Project) -> list[Span]:
    """Return from when to when each verification's tests ran."""
    seen = Verification.objects.filter(project=project).values_list("created_at", "duration_s")
    return [(end - timedelta(seconds=float(seconds)), end) for end, seconds in seen]


def busy_s(project: Project) -> float:
    """Return for how many seconds an agent's process, or the platform's own run of the tests, was at work."""
    return covered([*sessions(project), *checks(project)]).total_seconds()
