"""The ledger beside what a provider says."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing import usage_exports
from billing.errors import InvalidExport
from tests.factories import LedgerEntryFactory, PriceFactory

pytestmark = pytest.mark.django_db
USAGE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed\n"
)
USED = '{day},claude-sonnet-4-5-20250929,{key},"Default, mine",standard,≤ 200k,{n},20,30,40,{out},0,global,\n'
COST = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,"
    "inference_geo,speed\n"
)
PAID = "{day},Claude Sonnet 4.5,Default,house,message,≤ 200k,output,{usd},{usd},token,global,\n"


def used(day: str = "2026-03-01", n: Any = 1000, out: Any = 500, key: str = "house") -> str:
    return USED.format(day=day, n=n, out=out, key=key)


@pytest.fixture(autouse=True)
def booked() -> None:
    """Two requests of one day: 1000 in, 20 + 30 written, 40 read, 500 out, for 1.5 dollars; and others beside."""
    price = PriceFactory(model="claude-sonnet-4-5", valid_from=date(2025, 6, 1))
    at = {"created_at": datetime(2026, 3, 1, 23, 59, tzinfo=UTC), "price": price}
    LedgerEntryFactory(
        **at, amount=Decimal("1.25"), input_tokens=900, output_tokens=500, cache_write_tokens=20,
        long_cache_write_tokens=30, cache_read_tokens=40,
    )  # fmt: skip
    LedgerEntryFactory(**at, kind="adjust", amount=Decimal("0.25"), input_tokens=100, output_tokens=0)
    LedgerEntryFactory(**at, kind="reserve", amount=Decimal(9), input_tokens=0, output_tokens=0)
    LedgerEntryFactory(price=price, created_at=datetime(2026, 2, 28, 23, 59, tzinfo=UTC), amount=Decimal(7))


def reconcile(path: Path, content: str | bytes, *options: str) -> int:
    """Run the command and return its exit code."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        call_command("reconcile", str(path), *options)
    except CommandError as error:
        return error.returncode if "\n" not in str(error) else -1
    return 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "export"


def report(*results: dict[str, Any], day: str = "2026-03-01T00:00:00Z", **page: Any) -> str:
    bucket = {"starting_at": day, "ending_at": "2026-03-02T00:00:00Z", "results": list(results)}
    return json.dumps({"data": [bucket], "has_more": False, "next_page": None} | page)


RESULT = {
    "uncached_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
    "cache_read_input_tokens": 40,
    "output_tokens": 500,
    "model": "claude-sonnet-4-5-20250929",
    "api_key_id": "apikey_1",
}
CHARGE = {"amount": "150.0", "currency": "USD", "model": "claude-sonnet-4-5-20250929", "cost_type": "tokens"}
AGREEING = {
    "usage JSON": report(RESULT),
    "usage JSON in pages": "[" + report(RESULT) + "," + report() + "]",
    "cost CSV": COST + PAID.format(day="2026-03-01", usd="1.00") + PAID.format(day="2026-03-01", usd="0.50"),
    "cost JSON": report(CHARGE | {"amount": "100"}, CHARGE | {"amount": "50.00"}),
    "day of another zone": report(RESULT, day="2026-03-01T01:00:00+01:00"),
    "with a byte order mark": "\ufeff" + USAGE + used(),
}
AGREEING["usage CSV"] = USAGE + used(n=400, out=200) + used(n=600, out=300).replace("20,30,40", "0,0,0")


@pytest.mark.parametrize("kind", AGREEING)
def test_what_agrees_ends_well(file: Path, kind: str, capsys: Any) -> None:
    assert reconcile(file, AGREEING[kind], "--tolerance", "0") == 0
    assert "agree within 0 %" in capsys.readouterr().out


def test_drift_is_shown_by_day_model_and_kind(file: Path, capsys: Any) -> None:
    assert reconcile(file, USAGE + used(n=1250)) == 1

    (line,) = [line for line in capsys.readouterr().out.splitlines() if "DRIFT" in line]
    assert line.split() == [
        "2026-03-01", "claude-sonnet-4-5", "input_tokens", "1,000", "1,250", "250", "DRIFT", "+20.0", "%",
    ]  # fmt: skip


@pytest.mark.parametrize(("tolerance", "code"), [("0.9", 1), ("1", 0), ("5", 0)])
def test_tolerance_is_in_percent_of_the_providers_number(file: Path, tolerance: str, code: int) -> None:
    """1000 of ours beside 1010 is drift of 0.99 percent."""
    assert reconcile(file, USAGE + used(n=1010), "--tolerance", tolerance) == code


def test_cost_drifts_by_more_than_a_cent(file: Path) -> None:
    assert reconcile(file, COST + PAID.format(day="2026-03-01", usd="1.51"), "--tolerance", "0") == 0
    assert reconcile(file, COST + PAID.format(day="2026-03-01", usd="1.5101"), "--tolerance", "0") == 1


@pytest.mark.parametrize("day", ["2026-02-27", "2026-03-02"])
def test_what_only_one_side_has_is_drift(file: Path, day: str, capsys: Any) -> None:
    assert reconcile(file, USAGE + used() + used(day=day)) == 1
    assert "+100.0 %" in capsys.readouterr().out
    assert reconcile(file, COST + PAID.format(day="2026-02-28", usd="7") + PAID.format(day="2026-03-02", usd="0")) == 1
    assert "-100.0 %" in capsys.readouterr().out


def test_other_keys_of_the_organisation_are_left_out(file: Path) -> None:
    content = USAGE + used() + used(key="other", n=10**9)
    assert reconcile(file, content) == 1
    assert reconcile(file, content, "--api-key", "house") == 0
    assert reconcile(file, report(RESULT, RESULT | {"api_key_id": "apikey_2"}), "--api-key", "apikey_1") == 0


def test_search_fees_are_compared_under_their_own_name(file: Path, capsys: Any) -> None:
    fee = {"amount": "12", "currency": "USD", "model": None, "cost_type": "web_search"}
    assert reconcile(file, report(CHARGE, fee)) == 1
    assert "web_search" in capsys.readouterr().out


UNREADABLE = {
    "": "is empty",
    " \n": "is empty",
    "hello": "neither the columns",
    "a,b\n1,2\n": "neither the columns",
    b"\xff\xfe\x00": "not text in UTF-8",
    USAGE + "2026-03-01,claude\n": "line 2: it has not as many columns",
    USAGE + used() + used().replace(",house", ",house,more"): "line 3: it has not as many columns",
    USAGE + used(day="yesterday"): "line 2: 'yesterday' is no day",
    USAGE + used(n="-5"): "line 2: usage_input_tokens_no_cache is '-5'",
    USAGE + used(n="1e9"): "no number of tokens",
    USAGE + used(n="９"): "no number of tokens",
    USAGE + used(n=10**30): "no number of tokens",
    USAGE + '"unclosed': "unexpected end",
    COST + PAID.format(day="2026-03-01", usd="NaN"): "no amount of money",
    COST + PAID.format(day="2026-03-01", usd="much"): "no amount of money",
    "{": "not JSON",
    "[" * 100_000: "not JSON",
    "[]": "nothing to compare",
    USAGE: "nothing to compare",
    report(): "nothing to compare",
    "[3]": "no list “data”",
    '{"data": 3}': "no list “data”",
    '{"data": [3]}': "no list “results”",
    '{"data": [{"starting_at": "2026-03-01", "results": [3]}]}': "not an object",
    report(RESULT, has_more=True): "several pages",
    report(RESULT, day="never"): "is no day",
    report(RESULT | {"model": None}): "names no model",
    report(RESULT | {"output_tokens": -1}): "output_tokens is '-1'",
    report(RESULT | {"output_tokens": True}): "no number of tokens",
    report(RESULT | {"cache_creation": 3}): "cache_creation is not an object",
    report(CHARGE | {"currency": "EUR"}): "the ledger is in USD",
    report(CHARGE | {"amount": None}): "no amount of money",
    report({"colour": 1}): "neither of a usage report",
}


@pytest.mark.parametrize(("content", "why"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_unreadable_file_ends_with_two_and_one_line(file: Path, content: str | bytes, why: str) -> None:
    assert reconcile(file, content) == 2
    with pytest.raises(InvalidExport, match=why) as refused:
        usage_exports.read(file)
    assert str(refused.value).startswith(str(file))


def test_file_that_is_not_there_or_too_large(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="cannot be read: No such file") as refused:
        call_command("reconcile", str(file))
    assert refused.value.returncode == 2
    monkeypatch.setattr(usage_exports, "MAX_BYTES", 10)
    assert reconcile(file, USAGE) == 2


@pytest.mark.parametrize("tolerance", ["much", "-1", "101", "NaN"])
def test_impossible_tolerance_is_refused(file: Path, tolerance: str) -> None:
    with pytest.raises(CommandError, match="give a number from 0 to 100"):
        call_command("reconcile", str(file), f"--tolerance={tolerance}")
