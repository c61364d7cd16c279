"""Comparing the ledger with what the provider says: by day, model, and kind of token or money."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet, Sum
from django.db.models.functions import TruncDate

from billing.models import LedgerEntry
from billing.prices import base_model
from billing.queries import SPENT, TOKENS
from billing.usage_exports import Export, Key

COST = "cost"
# A ten-thousandth of a dollar of rounding (the ledger rounds each request up) is nobody's drift.
_LEAST = {COST: Decimal("0.01")}


@dataclass(frozen=True)
class Difference:
    """One number as the ledger and the provider have it. `what` is a kind of token, or "cost"."""

    day: date
    model: str
    what: str
    ours: Decimal
    theirs: Decimal

    @property
    def drift(self) -> Decimal:
        """How much more the provider counts; negative when the ledger has more."""
        return self.theirs - self.ours

    @property
    def percent(self) -> Decimal:
        """The drift in percent of the provider's number; 100 where that is nothing and the ledger's is not."""
        if not self.drift:
            return Decimal(0)
        return 100 * self.drift / self.theirs if self.theirs else Decimal(-100)

    def is_within(self, tolerance_percent: Decimal) -> bool:
        """Whether the two are as good as equal."""
        return abs(self.drift) <= _LEAST.get(self.what, 0) or abs(self.percent) <= tolerance_percent


def compare(export: Export) -> list[Difference]:
    """Return every number of the days from the export's first to its last, by day and model.

    What only one side has is compared with nothing. The export must have a day.
    """
    theirs = _numbers_of(export)
    days = [day for day, _, _ in theirs]
    ours = _booked(min(days), max(days), [COST] if export.cost is not None else list(TOKENS))
    zero = Decimal(0)
    return [Difference(*key, ours.get(key, zero), theirs.get(key, zero)) for key in sorted({*ours, *theirs})]


def _numbers_of(export: Export) -> dict[tuple[date, str, str], Decimal]:
    if export.cost is not None:
        return {(*key, COST): amount for key, amount in export.cost.items()}
    return {
        (*key, name): Decimal(count) for key, counts in (export.tokens or {}).items() for name, count in counts.items()
    }


def _booked(first: date, last: date, names: list[str]) -> dict[tuple[date, str, str], Decimal]:
    columns = {f"sum_{name}": Sum("amount" if name == COST else name) for name in names}
    lines: QuerySet[LedgerEntry] = LedgerEntry.objects.filter(kind__in=SPENT)
    rows: Iterable[Any] = (
        lines.filter(created_at__date__gte=first, created_at__date__lte=last)
        .annotate(day=TruncDate("created_at"))
        .values("day", "model")
        .annotate(**columns)
    )
    sums: dict[tuple[date, str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        key: Key = (row["day"], base_model(row["model"]))
        for name in names:
            sums[*key, name] += Decimal(row[f"sum_{name}"])
    return sums
