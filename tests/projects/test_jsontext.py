"""Whatever an agent writes can be stored, and comes back as it was stored."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projects.jsontext import MAX_DEPTH, storable_json, storable_text
from projects.models import Task
from tests.factories import TaskFactory

MARK = "\N{REPLACEMENT CHARACTER}"
EVIL_TEXT = st.text(st.characters(codec=None) | st.sampled_from("\x00\ud800\udfff\u202e"))
EVIL_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | EVIL_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(EVIL_TEXT, inner, max_size=4),
    max_leaves=12,
)


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    return depth


def as_numbers(value: Any) -> Any:
    """The value with every number as a float: 1e+22 comes back as an integer."""
    match value:
        case dict():
            return {key: as_numbers(item) for key, item in value.items()}
        case list():
            return [as_numbers(item) for item in value]
        case int() | float() if not isinstance(value, bool):
            return float(value)
        case _:
            return value


@pytest.mark.parametrize("text", ["", "plain", "🦉 ünï\ncode\t", "\u202eright to left", "<script>"])
def test_storable_text_is_left_alone(text: str) -> None:
    assert storable_text(text) == text


@pytest.mark.parametrize("text", ["\x00", "\ud800"], ids=ascii)
def test_unstorable_characters_are_replaced(text: str) -> None:
    assert storable_text(f"a{text}b") == f"a{MARK}b"


@pytest.mark.parametrize(("most", "cut"), [(5, "abcde"), (4, "abc…"), (1, "…")])
def test_long_text_is_cut(most: int, cut: str) -> None:
    assert storable_text("abcde", max_chars=most) == cut


def test_every_string_of_a_value_is_made_storable_keys_too() -> None:
    value = {"a\x00": ["b\x00", ("c\x00", {"long key": "long text"})], 1: None}
    expected = {f"a{MARK}": [f"b{MARK}", [f"c{MARK}", {"lon…": "lon…"}]], "1": None}
    assert storable_json(value, max_chars=4) == expected


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_become_null(number: float) -> None:
    assert storable_json([number, 1.5]) == [None, 1.5]


@pytest.mark.parametrize(("depth", "kept"), [(3, 3), (MAX_DEPTH, MAX_DEPTH), (900, MAX_DEPTH)])
def test_what_nests_too_deep_is_cut(depth: int, kept: int) -> None:
    assert depth_of(storable_json(nested(depth))) == kept


def test_value_itself_is_not_changed() -> None:
    value = {"a": ["\x00"]}
    storable_json(value)
    assert value == {"a": ["\x00"]}


@given(EVIL_JSON)
def test_made_storable_twice_is_made_storable_once(value: Any) -> None:
    once = storable_json(value)
    assert storable_json(once) == once
    json.dumps(once, allow_nan=False).encode()


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=EVIL_JSON, text=EVIL_TEXT)
def test_postgres_takes_whatever_was_made_storable(value: Any, text: str) -> None:
    task = Task.objects.first() or TaskFactory()
    stored = {"value": storable_json(value)}
    Task.objects.filter(pk=task.pk).update(result=stored, detail=storable_text(text))
    task.refresh_from_db()
    assert (as_numbers(task.result), task.detail) == (as_numbers(stored), storable_text(text))
