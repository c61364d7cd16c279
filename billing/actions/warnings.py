"""Telling people that a limit comes near: once for each threshold of each limit."""

from decimal import Decimal

from billing.models import Budget
from billing.statements import LockedBudget
from projects import audit
from projects.actors import Actor
from projects.events import BUDGET_WARNING, Event

CASHIER = Actor.system("billing")
THRESHOLDS = (50, 80, 95)  # percent of a limit, at which people are told once


def threshold_of(spent: Decimal, limit: Decimal | None) -> int:
    """Return the highest threshold that `spent` reaches, or 0; without a limit there is none."""
    if limit is None:
        return 0
    return max((percent for percent in THRESHOLDS if spent * 100 >= limit * percent), default=0)


def warn(journal: audit.Journal, budget: LockedBudget, spent: Decimal) -> None:
    """Say so when `spent` reaches a threshold of a locked budget that was not announced. A run's is nobody's news."""
    reached = threshold_of(spent, budget.limit)
    if reached <= budget.warned_percent or budget.scope == Budget.Scope.RUN:
        return
    warned = Budget.objects.get(pk=budget.id)
    Budget.objects.filter(pk=warned.pk).update(warned_percent=reached)
    facts = {"spent": spent, "limit": budget.limit, "percent": reached, "scope": budget.scope}
    journal.add(
        "billing.threshold_reached",
        project_id=budget.project_id,
        obj=warned,
        details=facts | {"scope_id": budget.scope_id},
        event=Event(BUDGET_WARNING, {"projectId": budget.project_id} | facts),
    )
