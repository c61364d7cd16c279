"""Delivery: the last look at a built project, in a fresh clone, before it counts as complete."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

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


def deliver(project_id: UUID, *, clock: Callable[[], datetime]) -> None:
    """Verify main of a project whose tasks are all completed, and complete the project or pause it with the reason.

    Idempotent, and harmless for a project that is not there yet. Two at once verify twice and one of them completes.
    """
    project = Project.objects.get(pk=project_id)
    if not queries.is_built(project):
        return
    commit = repository(project.pk).head()
    seen = observe(project, commit, name=f"delivery-{project.pk.hex}", require_app=True)
    runs.record_verification(project, None, Verification.Purpose.DELIVERY, facts_of(seen), now=clock())
    try:
        _conclude(project, commit, passed=seen.passed, detail=seen.detail, now=clock())
    except (IllegalTransition, StaleState):
        # Somebody paused, cancelled or completed it while we looked.
        return


def _conclude(project: Project, commit: str, *, passed: bool, detail: str, now: datetime) -> None:
    with audit.journal(by=DELIVERY, now=now):
        if passed:
            projects.complete_project(project, commit=commit, by=DELIVERY, now=now)
            agents.dismiss_agents(project, by=DELIVERY, now=now)
        else:
            reason = f"The delivery check failed: {detail}"[:500]
            projects.pause_project(project, reason=reason, by=DELIVERY, now=now)
