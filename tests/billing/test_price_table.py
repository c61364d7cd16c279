"""Dated prices: the shipped table, others, and that what was used stays."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, InternalError, ProgrammingError

from billing import price_table, queries
from billing.errors import InvalidPrices
from billing.models import Price
from projects.actors import Actor
from projects.models import AuditLog
from tests.factories import BudgetFactory, LedgerEntryFactory, PriceFactory, ReservationFactory

pytestmark = pytest.mark.django_db
BY = Actor.system("test")
ROW = """
[[price]]
model = "claude-next-1"
valid_from = 2026-04-01
input = 2
output = 10
cache_write = 2.50
long_cache_write = 4
cache_read = 0.20
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(ROW)
    return path


def test_shipped_table_is_loaded_once(now: datetime) -> None:
    price_table.load(by=BY, now=now)  # the migrations did, unless a test before this one emptied the tables

    assert price_table.load(by=BY, now=now) == price_table.Loaded([], [])
    assert {price.model for price in price_table.read_table(price_table.SHIPPED)} <= set(
        Price.objects.values_list("model", flat=True)
    )


def test_load_adds_what_is_new_with_a_record_and_once(table: Path, now: datetime, capsys: Any) -> None:
    call_command("load_prices", str(table))
    call_command("load_prices", str(table))

    price = queries.price_for("claude-next-1-20260401", date(2026, 4, 1))
    assert (price.input_per_mtok, price.long_cache_write_per_mtok) == (2, 4)
    assert AuditLog.objects.get(action="price.added").object_id == str(price.pk)
    assert capsys.readouterr().out.splitlines() == [f"added {price}", "1 prices added", "0 prices added"]


def test_load_leaves_a_price_with_other_numbers_and_says_so(table: Path, now: datetime) -> None:
    price = PriceFactory(model="claude-next-1", valid_from=date(2026, 4, 1))

    with pytest.raises(CommandError, match="Give the new ones a later date") as refused:
        call_command("load_prices", str(table))

    assert refused.value.returncode == 1
    assert Price.objects.get(pk=price.pk).input_per_mtok == 3


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", r"has no \[\[price\]\]"),
        ("price = 3", r"has no \[\[price\]\]"),
        ("not toml", "is not TOML"),
        (ROW + "colour = 1", "price 1: it needs exactly"),
        (ROW.replace("input = 2\n", ""), "price 1: it needs exactly"),
        (ROW.replace("2026-04-01", '"soon"'), "valid_from is a date"),
        (ROW.replace("input = 2", 'input = "2"'), "input is a number"),
        (ROW.replace("input = 2", "input = true"), "input is a number"),
        (ROW.replace("input = 2", "input = -2"), "price_not_negative"),
        (ROW.replace("input = 2", "input = nan"), "price 1"),
        (ROW.replace("input = 2", "input = 1e30"), "price 1"),
        (ROW.replace('"claude-next-1"', '""'), "price 1"),
        (ROW + ROW.replace("output = 10", "output = -1"), "price 2"),
    ],
)
def test_unusable_table_is_refused_as_a_whole(table: Path, now: datetime, content: str, why: str) -> None:
    table.write_text(content)
    before = Price.objects.count()

    with pytest.raises(InvalidPrices, match=why):
        price_table.load(table, by=BY, now=now)
    assert Price.objects.count() == before


def test_missing_table_ends_the_command_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read") as refused:
        call_command("load_prices", str(tmp_path / "none.toml"))
    assert refused.value.returncode == 2


@pytest.mark.parametrize("use", [ReservationFactory, LedgerEntryFactory])
def test_price_that_was_used_never_changes(use: Any) -> None:
    price = PriceFactory()
    Price.objects.update(input_per_mtok=4)  # nobody was billed by it
    use(price=price)

    with pytest.raises((InternalError, ProgrammingError), match="add another one with a later date"):
        Price.objects.filter(pk=price.pk).update(input_per_mtok=Decimal(1))


@pytest.mark.parametrize("factory", [PriceFactory, BudgetFactory, LedgerEntryFactory])
def test_money_of_another_currency_is_refused(factory: Any) -> None:
    with pytest.raises(IntegrityError, match="in_the_ledgers_currency"):
        factory(currency="EUR")
