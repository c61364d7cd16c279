"""When a run hits a limit of money that is not its own: the project waits for the admin."""

from datetime import datetime

from agents.models import Run
from agents.states import RunStatus
from projects import audit
from projects.actions import approvals, projects
from projects.actors import Actor
from projects.models import Project
from projects.states import OPEN_APPROVAL, ApprovalKind


def ask_for_more(run: Run, *, by: Actor, now: datetime) -> None:
    """Pause the project of a run that ended over budget and ask the admin for a new limit. Once, whoever calls.

    A run that used up its own limit is tried again like any other that failed: more for the project would not help it.
    """
    if run.status != RunStatus.OVER_BUDGET or run.reason == "run_budget":
        return
    with audit.journal(by=by, now=now):
        project = Project.objects.select_for_update().get(pk=run.project_id)
        asked = project.approvals.filter(kind=ApprovalKind.BUDGET, status__in=OPEN_APPROVAL).exists()
        if asked or not project.is_active:
            return
        reason = f"The budget of {project.budget_limit:.2f} {project.currency} is used up."
        projects.pause_project(project, reason=reason, by=by, now=now)
        approvals.ask(
            project,
            ApprovalKind.BUDGET,
            subject_id=project.pk,
            title=f"{project.name} needs more budget",
            body=f"{reason} Say the new limit to go on.",
            by=by,
            now=now,
        )
