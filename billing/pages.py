"""What the pages of money read. Costs are sums of `settle` and `adjust` lines; nothing is added up in a template."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib.postgres.aggregates import BoolAnd
from django.db.models import BooleanField, Expression, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing.models import Budget, LedgerEntry
from billing.queries import TOKENS
from projects.models import Project

REAL = Q(kind__in=[LedgerEntry.Kind.SETTLE, LedgerEntry.Kind.ADJUST])
CHART_DAYS = 14
CHART_W, CHART_H = 640, 120


@dataclass(frozen=True)
class Money:
    """A limit, or none, and how much of it is gone. Without a budget row yet, nothing is."""

    limit: Decimal | None
    settled: Decimal
    reserved: Decimal
    currency: str

    @property
    def left(self) -> Decimal | None:
        """What may still be reserved; None without a limit."""
        return None if self.limit is None else self.limit - self.settled - self.reserved

    @property
    def percent(self) -> int:
        """How much is spent or held, in percent of the limit."""
        return int(100 * (self.settled + self.reserved) / self.limit) if self.limit else 0

    @property
    def tone(self) -> str:
        """How the bar looks: amber from 80, red from 95 percent."""
        return "bad" if self.percent >= 95 else ("wait" if self.percent >= 80 else "active")


@dataclass(frozen=True)
class Share:
    """What was spent on a model; `simulated` where the rehearsal model answered in its place."""

    label: str
    amount: Decimal
    tokens: int
    simulated: bool


@dataclass(frozen=True)
class Bar:
    """A day's spending, drawn in a box of CHART_W x CHART_H."""

    label: str
    amount: Decimal
    x: int
    y: int
    width: int
    height: int


def money_of(project: Project) -> Money:
    """Return a project's budget as it stands."""
    budget = Budget.objects.filter(scope=Budget.Scope.PROJECT, scope_id=project.pk).first()
    return _money(budget) or Money(project.budget_limit, project.budget_spent, Decimal(0), project.currency)


def account_money(limit: Decimal, currency: str) -> Money:
    """Return the account's budget as it stands; `limit` while nothing was spent yet."""
    budget = Budget.objects.filter(scope=Budget.Scope.ACCOUNT).first()
    return _money(budget) or Money(limit, Decimal(0), Decimal(0), currency)


def _money(budget: Budget | None) -> Money | None:
    return Money(budget.limit, budget.settled, budget.reserved, budget.currency) if budget else None


def ledger(project_id: UUID | None = None) -> QuerySet[LedgerEntry]:
    """Return the lines of a project, or all."""
    return LedgerEntry.objects.all() if project_id is None else LedgerEntry.objects.filter(project_id=project_id)


def _of_no_run() -> QuerySet[Any]:
    return LedgerEntry.objects.none().values("run_id")


_rehearsed_runs: Callable[[], QuerySet[Any]] = _of_no_run


def register_rehearsed_runs(ids: Callable[[], QuerySet[Any]]) -> None:
    """Say for which runs nobody pays; they belong to a higher app. For `eklavya.wiring` alone."""
    global _rehearsed_runs
    _rehearsed_runs = ids


def _is_simulated() -> Expression:
    """Whether the rehearsal model answered the request of a line."""
    return ExpressionWrapper(Q(run_id__in=_rehearsed_runs()), output_field=BooleanField())


def lines(project_id: UUID) -> QuerySet[LedgerEntry]:
    """Return the lines of a project; `tokens_in` is all that a request sent, from the cache or not."""
    sent = F("input_tokens") + F("cache_write_tokens") + F("long_cache_write_tokens") + F("cache_read_tokens")
    return ledger(project_id).annotate(tokens_in=sent, simulated=_is_simulated())


def by_model(project_id: UUID | None = None) -> list[Share]:
    """Return what each model cost, the dearest first; what was rehearsed apart from what was paid."""
    found = ledger(project_id).filter(REAL).annotate(simulated=_is_simulated()).values("model", "simulated")
    sums = found.annotate(amount=Sum("amount"), **_TOKENS).order_by("-amount")
    return [Share(row["model"] or "other", row["amount"], _tokens(row), bool(row["simulated"])) for row in sums]


def by_project(limit: int = 20) -> list[tuple[Project, Decimal, bool]]:
    """Return what the dearest projects cost, and whether nobody paid it."""
    found = LedgerEntry.objects.filter(REAL).annotate(simulated=_is_simulated()).values("project_id")
    sums = found.annotate(amount=Sum("amount"), is_simulated=BoolAnd("simulated")).order_by("-amount")[:limit]
    projects = Project.objects.in_bulk([row["project_id"] for row in sums])
    return [
        (projects[row["project_id"]], row["amount"], bool(row["is_simulated"]))
        for row in sums
        if row["project_id"] in projects
    ]


def total(project_id: UUID | None = None) -> Decimal:
    """Return the sum of the ledger: the cost."""
    return ledger(project_id).filter(REAL).aggregate(sum=Sum("amount"))["sum"] or Decimal(0)


def daily(now: datetime) -> list[Bar]:
    """Return the spending of the last CHART_DAYS days as bars."""
    first = (now - timedelta(days=CHART_DAYS - 1)).date()
    sums = (
        LedgerEntry.objects.filter(REAL, created_at__date__gte=first)
        .annotate(day=TruncDate("created_at"))
        .values("day")
        .annotate(amount=Sum("amount"))
    )
    amounts = {row["day"]: row["amount"] for row in sums}
    days = [first + timedelta(days=number) for number in range(CHART_DAYS)]
    return _bars([(day.strftime("%-d %b"), amounts.get(day, Decimal(0))) for day in days])


def _bars(days: Sequence[tuple[str, Decimal]]) -> list[Bar]:
    highest = max((amount for _, amount in days), default=Decimal(0)) or Decimal(1)
    step = CHART_W // len(days)
    bars = []
    for number, (label, amount) in enumerate(days):
        height = max(int(CHART_H * amount / highest), 2 if amount else 1)
        bars.append(Bar(label, amount, number * step, CHART_H - height, step - 8, height))
    return bars


_TOKENS = {f"sum_{name}": Sum(name) for name in TOKENS}


def _tokens(row: Mapping[str, Any]) -> int:
    return sum(row[name] or 0 for name in _TOKENS)
