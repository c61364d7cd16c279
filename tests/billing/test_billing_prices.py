from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.prices import Usage, base_model, cost, worst_case


@dataclass(frozen=True)
class Rates:
    input_per_mtok: Decimal = Decimal(3)
    output_per_mtok: Decimal = Decimal(15)
    cache_write_per_mtok: Decimal = Decimal("3.75")
    long_cache_write_per_mtok: Decimal = Decimal(6)
    cache_read_per_mtok: Decimal = Decimal("0.30")


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(input_tokens=MILLION), "3"),
        (Usage(output_tokens=MILLION), "15"),
        (Usage(cache_write_tokens=MILLION), "3.75"),
        (Usage(cache_read_tokens=MILLION), "0.30"),
        (Usage(long_cache_write_tokens=MILLION), "6"),
        (Usage(), "0"),
    ],
)
def test_cost_takes_each_kind_of_token_at_its_price(usage: Usage, expected: str) -> None:
    assert cost(Rates(), usage) == Decimal(expected)


def test_cost_rounds_up() -> None:
    assert cost(Rates(), Usage(cache_read_tokens=1)) == Decimal("0.000001")


def test_worst_case_takes_all_input_as_written_to_the_cache() -> None:
    assert worst_case(Rates(), input_tokens=MILLION, max_tokens=MILLION) == Decimal("18.75")


def test_worst_case_of_the_long_cache_is_dearer() -> None:
    assert worst_case(Rates(), input_tokens=MILLION, max_tokens=0, long_cache=True) == Decimal(6)


tokens = st.integers(min_value=0, max_value=2_000_000)


@given(kinds=st.tuples(tokens, tokens, tokens, tokens), output=tokens)
def test_cost_never_exceeds_the_worst_case(kinds: tuple[int, int, int, int], output: int) -> None:
    fresh, written, read, long = kinds
    usage = Usage(fresh, output, written, read, long)
    assert cost(Rates(), usage) <= worst_case(Rates(), input_tokens=sum(kinds), max_tokens=output, long_cache=True)


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-latest", "claude-sonnet-4-5-latest"),
    ],
)
def test_base_model_drops_the_date_alone(model: str, base: str) -> None:
    assert base_model(model) == base
