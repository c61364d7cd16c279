"""Delivery: the last look at a built project, in a fresh clone, before it counts as complete."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from agents.actions import agents, outages, runs
from agents.actions.faults import PLATFORM_ERROR
from agents.models import Verification
from agents.observations import facts_of, facts_unseen, observe
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import repository
from agents.workspace.errors import WorkspaceError
from projects import audit, queries
from projects.actions import chat, main_job, projects
from projects.actors import Actor
from projects.errors import IllegalTransition, StaleState
from projects.models import Notification, Project
from projects.states import Stage

logger = logging.getLogger(__name__)
DELIVERY = Actor.system("delivery")
AGAIN_AFTER = timedelta(seconds=30)
"""What fails while it runs may fail for its machine, such as for a full disk: it counts when it fails again later."""
# What the commit itself says, however often one looks.
_OF_THE_COMMIT = frozenset({"manifest_missing", "manifest_invalid", "no_test_command", "start_missing"})
_PLATFORM_PROBLEMS = (RuntimeProblem, WorkspaceError, OSError)


def sandbox_name(project_id: UUID) -> str:
    """Return how the names of its sandboxes and directories begin."""
    return f"delivery-{project_id.hex}"


def deliver(project_id: UUID, *, clock: Callable[[], datetime]) -> None:
    """Verify main of a project whose tasks are all completed, and complete the project or pause it with the reason.

    Idempotent, and harmless for a project that is not there yet. Of two at once one looks, the other goes home. What
    fails while it runs is looked at once more, `AGAIN_AFTER` later, before the project is paused. What the platform
    itself could not look at, as on a disk that is nearly full, is looked at later and later; people are told once.
    """
    with alone(project_id) as is_alone:
        project = Project.objects.get(pk=project_id)
        if is_alone and queries.is_built(project) and _is_its_turn(project, now=clock()):
            _look(project, clock=clock)


def _is_its_turn(project: Project, *, now: datetime) -> bool:
    """Whether the main job is at the delivery. It goes there when all is built, unless other nodes come between."""
    if main_job.is_at(project, Stage.DELIVERY):
        return True
    main_job.reached(project, Stage.BUILD, by=DELIVERY, now=now)
    return main_job.is_at(project, Stage.DELIVERY)


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
    looks = Verification.objects.filter(
        project=project, commit=commit, purpose=Verification.Purpose.DELIVERY, passed=False
    )
    failed_at = _newest(looks.exclude(reason=PLATFORM_ERROR))
    if failed_at is not None and clock() < failed_at + AGAIN_AFTER:
        return
    unseen = looks.filter(reason=PLATFORM_ERROR)
    if failed_at is not None:
        unseen = unseen.filter(created_at__gt=failed_at)
    before, unseen_at = unseen.count(), _newest(unseen)
    if unseen_at is not None and clock() < unseen_at + outages.later(before - 1):
        return
    try:
        seen = observe(project, commit, name=sandbox_name(project.pk), require_app=True)
    except _PLATFORM_PROBLEMS as problem:
        logger.warning("the delivery of project %s cannot be checked: %s", project.pk, problem)
        _postpone(project, commit, str(problem), is_told=before > 0, now=clock())
        return
    runs.record_verification(project, None, Verification.Purpose.DELIVERY, facts_of(seen), now=clock())
    if not seen.passed and failed_at is None and seen.reason not in _OF_THE_COMMIT:
        return  # the sweep asks again
    try:
        _conclude(project, commit, passed=seen.passed, detail=seen.detail, now=clock())
    except (IllegalTransition, StaleState):
        # Somebody paused, cancelled or completed it while we looked.
        return


def _newest(looks: QuerySet[Verification]) -> datetime | None:
    return looks.order_by("-created_at").values_list("created_at", flat=True).first()


def _postpone(project: Project, commit: str, detail: str, *, is_told: bool, now: datetime) -> None:
    """Leave a trace by which the next look is later, and tell people, unless they were told of the one before."""
    with audit.journal(by=DELIVERY, now=now):
        facts = facts_unseen(commit, PLATFORM_ERROR, detail)
        runs.record_verification(project, None, Verification.Purpose.DELIVERY, facts, now=now)
        if not is_told:
            chat.notify(
                project,
                level=Notification.Level.WARNING,
                title="The delivery check has to wait",
                message=f"{detail} It is looked at again by itself, later each time: after 30 s to 15 min.",
                by=DELIVERY,
                now=now,
            )


def _conclude(project: Project, commit: str, *, passed: bool, detail: str, now: datetime) -> None:
    with audit.journal(by=DELIVERY, now=now):
        if passed:
            projects.complete_project(project, commit=commit, by=DELIVERY, now=now)
            agents.dismiss_agents(project, by=DELIVERY, now=now)
        else:
            reason = f"The delivery check failed: {detail}"[:500]
            projects.pause_project(project, reason=reason, by=DELIVERY, now=now)
