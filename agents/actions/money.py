"""When a run hits a limit of money: its own limit is the task's problem, any other one the admin's."""

from datetime import datetime
from decimal import Decimal

from agents.actions import runs
from agents.actions.runs import Ending
from agents.models import Run
from agents.states import RunStatus
from billing import queries as billing
from billing.models import Budget
from projects import audit
from projects.actions import approvals, projects
from projects.actors import Actor
from projects.models import Project
from projects.states import OPEN_APPROVAL, ApprovalKind

# Reasons of runs that ended over budget: the project's or the account's, and the run's own.
OVER_BUDGET = "over_budget"
RUN_BUDGET = "run_budget"


def explain(run: Run) -> str:
    """Say for people whose budget stopped a run: of the two that are not its own, the one with less left."""
    budgets = {budget.scope: budget for budget in billing.budgets_of(run.project_id, run.pk)}
    if run.stop_requested == RUN_BUDGET:
        return f"The agent used up the {_amount(budgets[Budget.Scope.RUN])} that one run may cost, without finishing."
    project, account = budgets[Budget.Scope.PROJECT], budgets[Budget.Scope.ACCOUNT]
    if _left(project) <= _left(account):
        return f"The budget of {_amount(project)} is used up."
    return f"The {_amount(account)} that all projects together may cost are used up."


def _left(budget: Budget) -> Decimal:
    return Decimal("Infinity") if budget.available is None else budget.available


def _amount(budget: Budget) -> str:
    return f"{budget.limit:.2f} {budget.currency}"


def fail(run: Run, ending: Ending, *, by: Actor, now: datetime) -> None:
    """End a run badly; when that is for money, ask for more in the same transaction, or its task would start anew."""
    with audit.journal(by=by, now=now):
        if ending.reason == OVER_BUDGET:
            # Before the run's and the task's rows, as when somebody cancels the project.
            Project.objects.select_for_update(no_key=True).get(pk=run.project_id)
        runs.fail(run, ending, now=now)
        ask_for_more(run, by=by, now=now)


def ask_for_more(run: Run, *, by: Actor, now: datetime) -> None:
    """Pause the project of a run that ended over budget and ask the admin for a new limit. Once, whoever calls."""
    if run.status != RunStatus.OVER_BUDGET or run.reason == RUN_BUDGET:
        return
    with audit.journal(by=by, now=now):
        project = Project.objects.select_for_update(no_key=True).get(pk=run.project_id)
        if not project.is_active:
            return
        reason = run.detail or "The budget is used up."
        projects.pause_project(project, reason=reason, by=by, now=now)
        if project.approvals.filter(kind=ApprovalKind.BUDGET, status__in=OPEN_APPROVAL).exists():
            return
        approvals.ask(
            project,
            ApprovalKind.BUDGET,
            subject_id=project.pk,
            title=f"{project.name} needs more budget",
            body=f"{reason} Say the new limit to go on.",
            by=by,
            now=now,
        )
