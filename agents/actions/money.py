"""When a run hits a limit of money: its own limit is the task's problem, any other one the admin's."""

from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

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


_STEP = Decimal(5)  # amounts to add are offered in multiples of this


def explain(run: Run) -> str:
    """Say for people whose budget stopped a run: its own, or of all others the one with the least left."""
    if run.stop_requested == RUN_BUDGET:
        own = Budget.objects.get(scope=Budget.Scope.RUN, scope_id=run.pk)
        return f"The agent used up the {_amount(own)} that one run may cost, without finishing."
    short = _short_of(run)
    if short is None:
        return "The budget is used up."
    return _SENTENCES[Budget.Scope(short.scope)].format(amount=_amount(short), agent=run.agent.name)


_SENTENCES = {
    Budget.Scope.ACCOUNT: "The {amount} that all projects together may cost are used up.",
    Budget.Scope.CLIENT: "The {amount} that all projects of this client together may cost are used up.",
    Budget.Scope.PROJECT: "The budget of {amount} is used up.",
    Budget.Scope.AGENT: "The {amount} that the agent {agent} may cost are used up.",
}


def _short_of(run: Run) -> Budget | None:
    """Return the budget that stands in a run's way: the one with the least left, its own left out."""
    budgets = billing.budgets_of(run.project_id, run.pk, run.agent_id)
    return billing.scarcest(budget for budget in budgets if budget.scope != Budget.Scope.RUN)


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
        short = _short_of(run)
        approvals.ask(
            project,
            ApprovalKind.BUDGET,
            # The budget whose limit is in the way, be it the account's: raising another one would not help.
            subject_id=short.pk if short else project.pk,
            title=f"{project.name} needs more budget",
            body=f"{reason} Say the new limit to go on, or what to add with a plus sign.",
            questions=[_question(short)] if short else [],
            by=by,
            now=now,
        )


def _question(short: Budget) -> dict[str, Any]:
    """Ask how much to add: a fifth, a half, or as much again, rounded up to whole steps."""
    assert short.limit is not None
    amounts = dict.fromkeys(
        (short.limit * share / _STEP).to_integral_value(ROUND_CEILING) * _STEP
        for share in (Decimal("0.2"), Decimal("0.5"), Decimal(1))
    )
    options = [f"+{amount:.0f}" for amount in amounts]
    of = Budget.Scope(short.scope).label.lower()
    return {
        "question": f"How much is to be added to the limit of the {of}, which is {_amount(short)}?",
        "options": options,
        "recommended": options[-1],
    }
