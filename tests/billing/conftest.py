from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from billing import actions
from billing.models import Price, Reservation
from projects.ids import new_id
from projects.models import Project

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
AGENT = UUID(int=7)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def price(db: None) -> Price:
    """Sonnet's price. Tests with real transactions empty the table that a migration filled."""
    found, _ = Price.objects.get_or_create(
        model="claude-sonnet-4-5",
        valid_from=date(2025, 1, 1),
        defaults={
            "input_per_mtok": Decimal(3),
            "output_per_mtok": Decimal(15),
            "cache_write_per_mtok": Decimal("3.75"),
            "long_cache_write_per_mtok": Decimal(6),
            "cache_read_per_mtok": Decimal("0.30"),
        },
    )
    return found


@pytest.fixture
def project(db: None) -> Project:
    return Project.objects.create(
        name="Bakery", client_name="The baker", description="A shop.", budget_limit=Decimal(10), created_at=NOW
    )


@pytest.fixture
def run_id(project: Project) -> UUID:
    """A run of AGENT with a limit of 4 in a project with a limit of 10, of a client; these two have none."""
    run_id = new_id()
    actions.open_budgets([actions.Opening(project, run_id=run_id, run_limit=Decimal(4), agent_id=AGENT)], now=NOW)
    return run_id


Reserve = Callable[..., Reservation]


@pytest.fixture
def reserve(project: Project, run_id: UUID, price: Price) -> Reserve:
    """Reserve an amount for the run, or for another one."""

    def reserve(amount: str | Decimal, *, run: UUID = run_id, now: datetime = NOW) -> Reservation:
        return actions.reserve(
            run_id=run,
            agent_id=AGENT,
            project_id=project.pk,
            model="claude-sonnet-4-5",
            amount=Decimal(amount),
            price=price,
            now=now,
        )

    return reserve
