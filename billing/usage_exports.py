"""Reading a provider's export of what was used or what it cost: days, models, tokens, money.

Four shapes of Anthropic's are known, told apart by their columns: the console's two CSV files (Analytics, "usage" with
tokens and "cost" with dollars) and the two reports of the Admin API as JSON, one page or several in a list.

Source: https://docs.anthropic.com/en/api/usage-cost-api, and the console's download.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from billing.errors import InvalidExport
from billing.prices import base_model
from billing.queries import TOKENS

MAX_BYTES = 200 * 1024 * 1024
Key = tuple[date, str]
Tokens = dict[str, int]  # by kind, as the ledger's columns are called
T = TypeVar("T")

_USAGE_CSV = {
    "usage_input_tokens_no_cache": "input_tokens",
    "usage_input_tokens_cache_write_5m": "cache_write_tokens",
    "usage_input_tokens_cache_write_1h": "long_cache_write_tokens",
    "usage_input_tokens_cache_read": "cache_read_tokens",
    "usage_output_tokens": "output_tokens",
}
_USAGE_JSON = {
    "uncached_input_tokens": "input_tokens",
    "ephemeral_5m_input_tokens": "cache_write_tokens",
    "ephemeral_1h_input_tokens": "long_cache_write_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "output_tokens": "output_tokens",
}
_CREATED = ("cache_write_tokens", "long_cache_write_tokens")
_DAY, _COST = "usage_date_utc", "cost_usd"
_CENTS = Decimal(100)


@dataclass(frozen=True)
class Export:
    """What a file says, by day (UTC) and model. A file has tokens or money; the other is None."""

    tokens: dict[Key, Tokens] | None = None
    cost: dict[Key, Decimal] | None = None


def read(path: Path, *, api_key: str = "") -> Export:
    """Return what a file says, with `api_key` of that key alone (its name in CSV, its id in JSON).

    Raises InvalidExport, in one line, for one that cannot be read or understood."""
    text = _text(path)
    try:
        export = (_read_json if text.lstrip()[:1] in {"{", "["} else _read_csv)(text, api_key)
        if not (export.tokens or export.cost):
            raise InvalidExport("it holds no results, so there is nothing to compare.")
        return export
    except InvalidExport as error:
        raise InvalidExport(f"{path}: {error}") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidExport(f"{path}: it is larger than {MAX_BYTES // 2**20} MiB. Export fewer days at a time.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidExport(f"{path}: it cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidExport(f"{path}: it is not text in UTF-8.") from error
    if not text.strip():
        raise InvalidExport(f"{path}: it is empty.")
    return text


# -- CSV


def _read_csv(text: str, api_key: str) -> Export:
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        columns = set(reader.fieldnames or ())
        if api_key and "api_key" not in columns:
            raise InvalidExport("it has no column api_key to choose by.")
        if {_DAY, "model_version", "usage_output_tokens"} <= columns:
            return _summed(_parsed(reader, _used, api_key))
        if {_DAY, "model", _COST} <= columns:
            return _charged(_parsed(reader, _paid, api_key))
    except csv.Error as error:
        raise InvalidExport(f"line {reader.line_num}: {error}.") from error
    raise InvalidExport(
        f"it has neither the columns of a usage export ({_DAY}, model_version, …) nor of a cost export."
    )


def _parsed(reader: "csv.DictReader[str]", parse: Callable[[dict[str, str]], T], api_key: str) -> Iterator[T]:
    for row in reader:
        if None in row or None in row.values():
            raise InvalidExport(f"line {reader.line_num}: it has not as many columns as the first line.")
        if api_key and row["api_key"] != api_key:
            continue
        try:
            yield parse(row)
        except InvalidExport as error:
            raise InvalidExport(f"line {reader.line_num}: {error}") from error


def _used(row: dict[str, str]) -> tuple[date, str, Tokens]:
    return _day(row[_DAY]), row["model_version"], _csv_usage(row)


def _paid(row: dict[str, str]) -> tuple[date, str, Decimal]:
    return _day(row[_DAY]), row["model"] or row.get("cost_type") or "other", _amount(row[_COST], _COST)


def _csv_usage(row: Mapping[str, str]) -> Tokens:
    return {name: _count(row.get(column), column) for column, name in _USAGE_CSV.items()}


# -- JSON


def _read_json(text: str, api_key: str) -> Export:
    try:
        content = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise InvalidExport(f"it is not JSON: {error}.") from error
    pages = content if isinstance(content, list) else [content]
    if isinstance(pages[-1] if pages else None, dict) and pages[-1].get("has_more"):
        raise InvalidExport("it is the first of several pages. Fetch them all, and put them into one list.")
    results = [one for one in _results(pages) if not api_key or one[1].get("api_key_id") == api_key]
    if all("output_tokens" in result for _, result in results):
        return _summed((day, _model(result), _json_usage(result)) for day, result in results)
    if all("amount" in result for _, result in results):
        return _charged((day, _model(result), _cents(result)) for day, result in results)
    raise InvalidExport("its results are neither of a usage report (output_tokens) nor of a cost report (amount).")


def _results(pages: list[Any]) -> Iterator[tuple[date, dict[str, Any]]]:
    for page in pages:
        buckets = page.get("data") if isinstance(page, dict) else None
        if not isinstance(buckets, list):
            raise InvalidExport("it has no list “data” of days.")
        for bucket in buckets:
            if not isinstance(bucket, dict) or not isinstance(bucket.get("results"), list):
                raise InvalidExport("an entry of “data” has no list “results”.")
            for result in bucket["results"]:
                if not isinstance(result, dict):
                    raise InvalidExport("a result is not an object.")
                yield _day(bucket.get("starting_at")), result


def _model(result: Mapping[str, Any]) -> str:
    model = result.get("model")
    if model is None and result.get("cost_type") in {"web_search", "code_execution"}:
        return str(result["cost_type"])
    if not isinstance(model, str) or not model:
        raise InvalidExport("a result names no model. Group the report by model (a cost report by description).")
    return model


def _json_usage(result: Mapping[str, Any]) -> Tokens:
    created = result.get("cache_creation") or {}
    if not isinstance(created, Mapping):
        raise InvalidExport("cache_creation is not an object.")
    return {name: _count((created if name in _CREATED else result).get(key), key) for key, name in _USAGE_JSON.items()}


def _cents(result: Mapping[str, Any]) -> Decimal:
    if result.get("currency", "USD") != "USD":
        raise InvalidExport(f"an amount is in {str(result['currency'])[:8]!r}; the ledger is in USD.")
    return _amount(result["amount"], "amount") / _CENTS


# -- both


def _summed(rows: Iterable[tuple[date, str, Tokens]]) -> Export:
    sums: dict[Key, Tokens] = defaultdict(lambda: dict.fromkeys(TOKENS, 0))
    for day, model, tokens in rows:
        for name, count in tokens.items():
            sums[day, _id_of(model)][name] += count
    return Export(tokens=dict(sums))


def _charged(rows: Iterable[tuple[date, str, Decimal]]) -> Export:
    sums: dict[Key, Decimal] = defaultdict(Decimal)
    for day, model, amount in rows:
        sums[day, _id_of(model)] += amount
    return Export(cost=dict(sums))


def _id_of(model: str) -> str:
    """Return a model's id without its date; the cost export writes names: “Claude Sonnet 4.5” is claude-sonnet-4-5."""
    return base_model(re.sub(r"[ .]+", "-", model.strip().lower()))


def _day(value: object) -> date:
    try:
        moment = datetime.fromisoformat(str(value))
        return moment.astimezone(UTC).date() if moment.tzinfo else moment.date()
    except (ValueError, OverflowError):
        raise InvalidExport(f"{str(value)[:40]!r} is no day, such as 2026-11-21.") from None


def _count(value: object, name: str) -> int:
    if value is None or value == "":
        return 0
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidExport(f"{name} is {text[:40]!r}, which is no number of tokens.")
    return int(text)


def _amount(value: object, name: str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) >= 10**12:
        raise InvalidExport(f"{name} is {str(value)[:40]!r}, which is no amount of money.")
    return amount
