"""What the pages of money show of limits: each level's, and who changed them or was told when."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse

from billing.actions.limits import NEEDS_LIMIT
from billing.actions.warnings import THRESHOLDS
from billing.models import Budget
from billing.pages import Money
from billing.statements import ACCOUNT_ID
from projects.models import AuditLog, Client, Project

Scope = Budget.Scope
Names = dict[UUID, str]
HISTORY = 20
MOST_AGENTS = 30
_RECORDED = ("billing.limit_changed", "billing.threshold_reached", "billing.refused")


@dataclass(frozen=True)
class Level:
    """A budget with its name. `reached` is the highest threshold that people were told of, 0 for none."""

    budget_id: UUID
    scope: str
    kind: str
    name: str
    url: str
    money: Money
    reached: int
    needs_limit: bool

    @property
    def can_change(self) -> bool:
        """Whether people set this limit; a run's follows from its squad."""
        return self.scope != Scope.RUN

    @property
    def next_warning(self) -> int | None:
        """The threshold that is announced next, None after the last one and without a limit."""
        if self.money.limit is None:
            return None
        return next((percent for percent in THRESHOLDS if percent > self.reached), None)


@dataclass(frozen=True)
class Change:
    """A line of the history: `old` and `new` are limits for a change, else None."""

    at: datetime
    kind: str
    who: str
    level: str
    old: Decimal | None
    new: Decimal | None
    percent: int | None
    amount: Decimal | None
    limit: Decimal | None


def _nameless(ids: Sequence[UUID]) -> Names:
    return {}


_agent_names: Callable[[Sequence[UUID]], Names] = _nameless


def register_agent_names(names: Callable[[Sequence[UUID]], Names]) -> None:
    """Say how agents are called; they belong to a higher app. For `eklavya.wiring` alone."""
    global _agent_names
    _agent_names = names


def of_project(project: Project) -> list[Level]:
    """Return the levels that a project spends from: account, client, itself, and its agents, the dearest first."""
    found = Budget.objects.filter(
        Q(scope=Scope.ACCOUNT, scope_id=ACCOUNT_ID)
        | Q(scope=Scope.CLIENT, scope_id=project.client_id)
        | Q(scope=Scope.PROJECT, scope_id=project.pk)
    )
    agents = Budget.objects.filter(scope=Scope.AGENT, project=project).order_by("-settled", "created_at", "pk")
    order = list(Scope)
    above = sorted(found, key=lambda budget: order.index(Scope(budget.scope)))
    return _levels([*above, *agents[:MOST_AGENTS]])


def of_account() -> list[Level]:
    """Return the account's level and those of all clients, the dearest first."""
    account = Budget.objects.filter(scope=Scope.ACCOUNT, scope_id=ACCOUNT_ID)
    clients = Budget.objects.filter(scope=Scope.CLIENT).order_by("-settled", "created_at", "pk")
    return _levels([*account, *clients[:MOST_AGENTS]])


def _levels(budgets: Sequence[Budget]) -> list[Level]:
    names = _names((budget.scope, budget.scope_id) for budget in budgets)
    return [_level(budget, names.get(budget.scope_id, "gone")) for budget in budgets]


def _names(named: Iterable[tuple[str, UUID]]) -> Names:
    ids: dict[str, list[UUID]] = defaultdict(list)
    for scope, key in named:
        ids[scope].append(key)
    names: Names = {ACCOUNT_ID: "All projects"}
    if found := ids[Scope.CLIENT]:
        names |= dict(Client.objects.filter(pk__in=found).values_list("pk", "name"))
    if found := ids[Scope.PROJECT]:
        names |= dict(Project.objects.filter(pk__in=found).values_list("pk", "name"))
    if found := ids[Scope.AGENT]:
        names |= _agent_names(found)
    return names


def _level(budget: Budget, name: str) -> Level:
    urls = {
        Scope.ACCOUNT: lambda: reverse("budget"),
        Scope.PROJECT: lambda: reverse("project_money", args=[budget.scope_id]),
    }
    scope = Scope(budget.scope)
    return Level(
        budget_id=budget.pk,
        scope=budget.scope,
        kind=scope.label,
        name=name,
        url=urls[scope]() if scope in urls else "",
        money=Money(budget.limit, budget.settled, budget.reserved, budget.currency),
        reached=budget.warned_percent,
        needs_limit=scope in NEEDS_LIMIT,
    )


def history_of_project(project: Project) -> list[Change]:
    """Return the newest changes and warnings of the limits that bind a project."""
    above = Q(details__scope=Scope.ACCOUNT) | Q(details__scope_id=str(project.client_id))
    return _history(AuditLog.objects.filter(Q(project_id=project.pk) | Q(above, project_id=None)))


def history_of_account() -> list[Change]:
    """Return the newest changes and warnings of the account's limit and its clients'."""
    return _history(AuditLog.objects.filter(project_id=None))


def _history(rows: QuerySet[AuditLog]) -> list[Change]:
    found = list(rows.filter(action__in=_RECORDED).order_by("-timestamp", "-id")[:HISTORY])
    # The account is one and a project's page its own: only these need a name besides.
    several = [row.details for row in found if row.details.get("scope") in {Scope.CLIENT, Scope.AGENT}]
    names = _names((said["scope"], UUID(said["scope_id"])) for said in several if said.get("scope_id"))
    return [_change(row, names) for row in found]


def _change(row: AuditLog, names: Names) -> Change:
    said = row.details

    def money(name: str) -> Decimal | None:
        value: Any = said.get(name)
        return None if value is None else Decimal(str(value))

    return Change(
        at=row.timestamp,
        kind=row.action.partition(".")[2],
        who=row.actor_name,
        level=_label(said, names),
        old=money("from"),
        new=money("to"),
        percent=said.get("percent"),
        amount=money("amount"),
        limit=money("limit"),
    )


def _label(said: dict[str, Any], names: Names) -> str:
    """Return which limit a record is about; those from before there were levels are about a project's."""
    scope = said.get("scope")
    label = Scope(scope).label.lower() if scope in Scope.values else "project"
    name = names.get(UUID(said["scope_id"])) if scope in {Scope.CLIENT, Scope.AGENT} and said.get("scope_id") else None
    return f"{label} {name}" if name else label
