"""What a model request costs, and the most that it can cost. Pure functions on Decimals.

Source: https://docs.anthropic.com/en/docs/about-claude/pricing.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Protocol

_MTOK = Decimal(1_000_000)
_STEP = Decimal("0.000001")
_DATE_SUFFIX = re.compile(r"-\d{8}$")


class Rates(Protocol):
    """Prices per million tokens (`billing.models.Price`)."""

    @property
    def input_per_mtok(self) -> Decimal: ...
    @property
    def output_per_mtok(self) -> Decimal: ...
    @property
    def cache_write_per_mtok(self) -> Decimal: ...
    @property
    def long_cache_write_per_mtok(self) -> Decimal: ...
    @property
    def cache_read_per_mtok(self) -> Decimal: ...


@dataclass(frozen=True)
class Usage:
    """Tokens of one request by kind. `long_cache_write_tokens` are those written to the one-hour cache.

    The kinds do not overlap: what was read from or written to a cache is not in `input_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    long_cache_write_tokens: int = 0
    fees: Decimal = Decimal(0)
    """What is charged besides tokens, such as for searches."""

    @property
    def total(self) -> int:
        """All tokens."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_write_tokens
            + self.cache_read_tokens
            + self.long_cache_write_tokens
        )


def base_model(model: str) -> str:
    """Return a model's id without the date at its end, as in the price table."""
    return _DATE_SUFFIX.sub("", model)


def worst_case(rates: Rates, *, input_tokens: int, max_tokens: int, long_cache: bool = False) -> Decimal:
    """Return the most that a request can cost, rounded up.

    `input_tokens` is an upper bound (a token is at least one byte of the request). All of them may be written to a
    cache, which is the dearest that can happen to input; with `long_cache` to the one-hour one.
    """
    dearest = max(rates.input_per_mtok, rates.cache_write_per_mtok)
    if long_cache:
        dearest = max(dearest, rates.long_cache_write_per_mtok)
    return _round_up(input_tokens * dearest + max_tokens * rates.output_per_mtok)


def cost(rates: Rates, usage: Usage) -> Decimal:
    """Return what a request cost, rounded up."""
    return _round_up(
        usage.input_tokens * rates.input_per_mtok
        + usage.output_tokens * rates.output_per_mtok
        + usage.cache_write_tokens * rates.cache_write_per_mtok
        + usage.cache_read_tokens * rates.cache_read_per_mtok
        + usage.long_cache_write_tokens * rates.long_cache_write_per_mtok
        + usage.fees * _MTOK
    )


def _round_up(per_mtok: Decimal) -> Decimal:
    return (per_mtok / _MTOK).quantize(_STEP, rounding=ROUND_UP)
