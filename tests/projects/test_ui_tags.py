"""The portal's small words."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.template import Context, Template
from django.utils import timezone

from projects.templatetags import ui


def render(text: str, **context: object) -> str:
    return Template("{% load ui %}" + text).render(Context(context))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0.00"),
        ("1.2345", "$1.23"),
        ("1.235", "$1.24"),
        ("0.001", "<$0.01"),
        ("1234567.5", "$1,234,567.50"),
        ("-2.5", "-$2.50"),
    ],
)
def test_money_is_written_to_the_cent(amount: str, text: str) -> None:
    assert ui.money_text(Decimal(amount)) == text


def test_money_of_another_currency_names_it() -> None:
    assert ui.money_text(Decimal(3), "CHF") == "CHF 3.00"
    assert ui.money_text(None, "EUR") == "€0.00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (59, "59s"), (60, "1m 00s"), (245, "4m 05s"), (7380, "2h 03m"), (100_000, "1d 3h")],
)
def test_elapsed_has_two_units_at_most(seconds: int, text: str) -> None:
    assert ui.elapsed_text(seconds) == text


def test_elapsed_ticks_while_there_is_no_end() -> None:
    start = timezone.now() - timedelta(seconds=5)

    assert "data-elapsed" in ui.elapsed(start)
    assert "data-elapsed" not in ui.elapsed(start, timezone.now())
    assert ui.elapsed(None) == ""


@pytest.mark.parametrize(
    ("back", "text"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(days=1), "yesterday"),
        (timedelta(days=6), "6 days ago"),
    ],
)
def test_ago_grows_coarser(back: timedelta, text: str) -> None:
    assert f">{text}<" in ui.ago(timezone.now() - back)


def test_ago_of_long_ago_is_the_date() -> None:
    moment = timezone.now() - timedelta(days=40)

    assert f">{moment.day} {moment:%b %Y}<" in ui.ago(moment)


def test_a_badge_is_icon_word_and_tone() -> None:
    html = render("{% badge 'run' 'failed' why %}", why='1 of "8" <tests>')

    assert 'data-tone="bad"' in html
    assert "#circle-x" in html
    assert "Failed</span>" in html
    assert 'title="1 of &quot;8&quot; &lt;tests&gt;"' in html


def test_an_unknown_state_is_a_mistake_and_not_a_blank() -> None:
    with pytest.raises(KeyError):
        render("{% badge 'run' 'flying' %}")


def test_words_of_a_reason() -> None:
    assert ui.words("tests_failed") == "Tests failed"
    assert ui.words("") == ""


@pytest.mark.parametrize(("part", "whole", "percent"), [(1, 4, 25), (5, 4, 100), (-1, 4, 0), (1, 0, 0)])
def test_percent_of(part: int, whole: int, percent: int) -> None:
    assert ui.percent_of(part, whole) == percent


def test_role_shows_the_name_where_there_is_one() -> None:
    assert "Product manager" in render("{% role 'pm' %}")
    assert "pm-2" in render("{% role 'pm' 'pm-2' %}")
    assert "wizard" in render("{% role 'wizard' %}")
