"""The shipped table of prices, and putting what is new in it into the database."""

import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import models

from billing.errors import InvalidPrices
from billing.models import CURRENCY, Price
from projects import audit
from projects.actions import settings
from projects.actors import Actor
from projects.ids import new_id

SHIPPED = Path(__file__).with_name("price_table.toml")
_RATES = ("input", "output", "cache_write", "long_cache_write", "cache_read")


@dataclass(frozen=True)
class Loaded:
    """What loading a table did. `differing` are rows whose date the database has with other numbers: left as it is."""

    added: list[Price]
    differing: list[Price]


def read_table(path: Path) -> list[Price]:
    """Return the rows of a table, unsaved. Raises InvalidPrices with what is wrong and where."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise InvalidPrices(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # of TOML or of the encoding
        raise InvalidPrices(f"{path} is not TOML: {error}.") from error
    rows = content.get("price")
    if not isinstance(rows, list) or not rows:
        raise InvalidPrices(f"{path} has no [[price]].")
    return [_price(row, f"{path}, price {number}") for number, row in enumerate(rows, start=1)]


def _price(row: object, where: str) -> Price:
    expected = {"model", "valid_from", *_RATES}
    if not isinstance(row, dict) or row.keys() != expected:
        raise InvalidPrices(f"{where}: it needs exactly {', '.join(sorted(expected))}.")
    if type(row["valid_from"]) is not date:
        raise InvalidPrices(f"{where}: valid_from is a date, such as 2026-04-01.")
    for name in _RATES:
        if isinstance(row[name], bool) or not isinstance(row[name], int | Decimal):
            raise InvalidPrices(f"{where}: {name} is a number.")
    rates = {f"{name}_per_mtok": Decimal(row[name]) for name in _RATES}
    price = Price(id=new_id(), model=row["model"], valid_from=row["valid_from"], currency=CURRENCY, **rates)
    try:
        price.clean_fields()
        _check_not_negative(price)
    except ValidationError as error:
        raise InvalidPrices(f"{where}: {' '.join(error.messages)}") from error
    return price


def _check_not_negative(price: Price) -> None:
    for constraint in Price._meta.constraints:
        if isinstance(constraint, models.CheckConstraint):
            constraint.validate(Price, price)


def load(path: Path = SHIPPED, *, by: Actor, now: datetime) -> Loaded:
    """Add the table's rows that the database does not have. Doing it again changes nothing. Raises InvalidPrices."""
    rows, loaded = read_table(path), Loaded([], [])
    with audit.journal(by=by, now=now):
        for row in rows:
            there = Price.objects.filter(model=row.model, valid_from=row.valid_from).first()
            if there is None:
                settings.add_row(row, by=by, now=now)
                loaded.added.append(row)
            elif any(getattr(there, f"{name}_per_mtok") != getattr(row, f"{name}_per_mtok") for name in _RATES):
                loaded.differing.append(there)
    return loaded
