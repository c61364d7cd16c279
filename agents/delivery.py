"""Delivery: the last look at a built project, in a fresh clone, before it counts as complete."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from agents.actions import agents, runs
from agents.models import Verification
from agents.observations import facts_of, observe
from agents.sandboxes import repository
from projects import audit, queries
from projects.actions import projects
from projects.actors import Actor
from projects.errors import IllegalTransition, StaleState
from projects.models import Project

DELIVERY = Actor.system("delivery")
AGAIN_AFTER = timedelta(seconds=30)
"""What fails while it runs may fail for its machine, such as for a full disk: it counts when it fails again later."""
# What the commit itself says, however often one looks.
_OF_THE_COMMIT = frozenset({"manifest_missing", "manifest_invalid", "no_test_command", "start_missing"})


def sandbox_name(project_id: UUID) -> str:
    """Return how the names of its sandboxes and directories begin."""
    return f"delivery-{project_id.hex}"


def deliver(project_id: UUID, *, clock: Callable[[], datetime]) -> None:
    """Verify main of a project whose tasks are all completed, and complete the project or pause it with the reason.

    Idempotent, and harmless for a project that is not there yet. Of two at once one looks, the other goes home. What
    fails while it runs is looked at once more, `AGAIN_AFTER` later, before the project is paused.
    """
    with alone(project_id) as is_alone:
        project = Project.objects.get(pk=project_id)
        if is_alone and queries.is_built(project):
            _look(project, clock=clock)


@contextmanager
def alone(project_id: UUID) -> Iterator[bool]:
    """Whether nobody else delivers this project now. The lock goes with the connection that holds it."""
    key = int.from_bytes(project_id.bytes[-8:], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        (is_alone,) = cursor.fetchone()
        try:
            yield is_alone
        finally:
            if is_alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


def _look(project: Project, *, clock: Callable[[], datetime]) -> None:
    commit = repository(project.pk).head()
    failed_at = _last_failure(project, commit)
    if failed_at is not None and clock() < failed_at + AGAIN_AFTER:
        return
    seen = observe(project, commit, name=sandbox_name(project.pk), require_app=True)
    runs.record_verification(project, None, Verification.Purpose.DELIVERY, facts_of(seen), now=clock())
    if not seen.passed and failed_at is None and seen.reason not in _OF_THE_COMMIT:
        return  # the sweep asks again
    try:
        _conclude(project, commit, passed=seen.passed, detail=seen.detail, now=clock())
    except (IllegalTransition, StaleState):
        # Somebody paused, cancelled or completed it while we looked.
        return


def _last_failure(project: Project, commit: str) -> datetime | None:
    looks = Verification.objects.filter(project=project, commit=commit, purpose=Verification.Purpose.DELIVERY)
    newest = looks.filter(passed=False).order_by("-created_at")
    return newest.values_list("created_at", flat=True).first()


def _conclude(project: Project, commit: str, *, passed: bool, detail: str, now: datetime) -> None:
    with audit.journal(by=DELIVERY, now=now):
        if passed:
            projects.complete_project(project, commit=commit, by=DELIVERY, now=now)
            agents.dismiss_agents(project, by=DELIVERY, now=now)
        else:
            reason = f"The delivery check failed: {detail}"[:500]
            projects.pause_project(project, reason=reason, by=DELIVERY, now=now)
