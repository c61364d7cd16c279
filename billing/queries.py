"""Reads that several callers need: prices, what was spent and by whom, pages of the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet, Sum

from billing.errors import UnknownPrice
from billing.models import Budget, LedgerEntry, Price
from billing.prices import base_model
from billing.statements import ACCOUNT_ID
from projects.models import Project

Scope = Budget.Scope
# The lines whose sum is what was spent; the others hold and give back.
SPENT = (LedgerEntry.Kind.SETTLE, LedgerEntry.Kind.ADJUST)
TOKENS = ("input_tokens", "output_tokens", "cache_write_tokens", "long_cache_write_tokens", "cache_read_tokens")
PAGE_SIZE = 100


def price_for(model: str, on: date) -> Price:
    """Return the price of a model on a day; its id may carry a date suffix. Raises UnknownPrice."""
    price = Price.objects.filter(model=base_model(model), valid_from__lte=on).order_by("-valid_from").first()
    if price is None:
        raise UnknownPrice(f"There is no price for the model “{model[:100]}”.")
    return price


def budgets_of(project_id: UUID, run_id: UUID, agent_id: UUID | None = None) -> list[Budget]:
    """Return the budgets that a run spends from, from the account's to its own, as far as there are such.

    Without `agent_id` the agent's is left out.
    """
    client_id = Project.objects.filter(pk=project_id).values("client_id")
    found = Budget.objects.filter(
        Q(scope=Scope.ACCOUNT, scope_id=ACCOUNT_ID)
        | Q(scope=Scope.CLIENT, scope_id__in=client_id)
        | Q(scope=Scope.PROJECT, scope_id=project_id)
        | Q(scope=Scope.AGENT, scope_id=agent_id)
        | Q(scope=Scope.RUN, scope_id=run_id)
    )
    return sorted(found, key=lambda budget: list(Scope).index(Scope(budget.scope)))


def scarcest(budgets: Iterable[Budget]) -> Budget | None:
    """Return the budget with the least left, of equal ones the first; None when none has a limit."""
    limited = [budget for budget in budgets if budget.limit is not None]
    return min(limited, key=lambda budget: budget.available or 0, default=None)


def project_budget(project_id: UUID) -> Budget | None:
    """Return a project's budget, or None before its first run."""
    return Budget.objects.filter(scope=Budget.Scope.PROJECT, scope_id=project_id).first()


def account_budget() -> Budget | None:
    """Return the account's budget, or None before the first run."""
    return Budget.objects.filter(scope=Budget.Scope.ACCOUNT, scope_id=ACCOUNT_ID).first()


def project_cost(project_id: UUID) -> Decimal:
    """Return what a project cost so far, by the ledger."""
    total = _spent(project_id).aggregate(total=Sum("amount"))["total"]
    return total or Decimal(0)


@dataclass(frozen=True)
class Share:
    """A part of a project's cost. `key` is an agent's or run's id, or a model."""

    key: UUID | str | None
    cost: Decimal
    tokens: int
    requests: int


def breakdown(project_id: UUID, by: Literal["agent_id", "run_id", "model"]) -> list[Share]:
    """Return a project's cost by agent, run or model, dearest first."""
    tokens = sum((F(name) for name in TOKENS[1:]), start=F(TOKENS[0]))
    rows = (
        _spent(project_id)
        .values(by)
        .annotate(cost=Sum("amount"), tokens=Sum(tokens), requests=Count("request_id", distinct=True))
        .order_by("-cost", by)
    )
    return [Share(row[by], row["cost"], row["tokens"], row["requests"]) for row in rows]


def breakdown_by_task(project_id: UUID, task_of_run: Mapping[UUID, UUID]) -> list[Share]:
    """Return a project's cost by task, dearest first. The caller knows which run belongs to which task.

    Runs that are not in `task_of_run` come together under None.
    """
    sums: dict[UUID | None, Share] = {}
    for share in breakdown(project_id, "run_id"):
        task = task_of_run.get(share.key) if isinstance(share.key, UUID) else None
        so_far = sums.get(task, Share(task, Decimal(0), 0, 0))
        sums[task] = Share(
            task, so_far.cost + share.cost, so_far.tokens + share.tokens, so_far.requests + share.requests
        )
    return sorted(sums.values(), key=lambda share: share.cost, reverse=True)


@dataclass(frozen=True)
class LedgerPage:
    """Lines of the ledger, newest first. `next_before` leads to the page after it, None on the last one."""

    entries: list[LedgerEntry]
    next_before: tuple[datetime, UUID] | None


def ledger_page(
    project_id: UUID | None, *, before: tuple[datetime, UUID] | None = None, size: int = PAGE_SIZE
) -> LedgerPage:
    """Return one page of a project's ledger, or of the whole where `project_id` is None.

    Pages hold still while lines are added: each starts after the last line seen (time, id), not at a number.
    """
    entries = LedgerEntry.objects.order_by("-created_at", "-id")
    if project_id is not None:
        entries = entries.filter(project_id=project_id)
    if before is not None:
        at, last_id = before
        entries = entries.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=last_id))
    found = list(entries[: size + 1])
    page = found[:size]
    more = len(found) > size
    return LedgerPage(page, (page[-1].created_at, page[-1].pk) if more else None)


def _spent(project_id: UUID) -> QuerySet[LedgerEntry]:
    return LedgerEntry.objects.filter(project_id=project_id, kind__in=SPENT)
