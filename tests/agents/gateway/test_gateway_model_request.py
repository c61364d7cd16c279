import json
from decimal import Decimal
from typing import Any

import pytest

from agents.gateway.api_errors import ApiError
from agents.gateway.model_request import read_request, with_model
from billing.prices import Usage
from tests.agents.gateway.harness import ask

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
FROM_WEB = {"type": "url", "url": "https://example.com/?secret"}


def encode(**fields: Any) -> bytes:
    return json.dumps(ask(**fields)).encode()


def content(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def refusal(body: bytes) -> str:
    with pytest.raises(ApiError) as refused:
        read_request(body)
    assert refused.value.status == 400
    return refused.value.message


def test_reads_what_matters() -> None:
    body = encode(max_tokens=32_000)
    read = read_request(body)

    assert (read.body, read.model, read.max_tokens) == (body, "claude-sonnet-4-5", 32_000)
    assert read.input_bound == len(body) + 2_000
    assert not read.has_long_cache


@pytest.mark.parametrize("value", [-1, False, True, 1.5, "5", None, 10**9])
def test_max_tokens_must_be_a_number_and_not_negative(value: object) -> None:
    assert "max_tokens" in refusal(encode(max_tokens=value))


def test_request_that_only_fills_the_cache_is_held_at_its_input() -> None:
    read = read_request(encode(max_tokens=0))

    assert read.most == Usage(cache_write_tokens=read.input_bound)


def test_max_tokens_is_required_unless_tokens_are_counted() -> None:
    body = json.dumps({"model": "claude-sonnet-4-5", "messages": []}).encode()

    assert "max_tokens" in refusal(body)
    assert read_request(body, counting=True).max_tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        encode().decode().encode("utf-16"),
        b'{"max_tokens": NaN}',
        b"[" * 100_000,
        b'{"model": "claude-haiku-4-5", "model": "claude-opus-4-5"}',
        b'{"max_tokens": ' + b"9" * 5_000 + b"}",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    assert "JSON" in refusal(body)


def test_duplicate_keys_are_refused_however_deep() -> None:
    assert "JSON" in refusal(encode().replace(b'"role": "user"', b'"role": "user", "role": "assistant"'))


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": [{"type": "url", "url": "https://example.com"}]},
        {"mcp_servers": 0},
        {"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}},
        {"compaction": {}},
        {"thread": {"type": "thread", "id": "t"}},
        {"workspace_id": "w"},
        {"something_new": True},
        {"something_new": 0},
        {"something_new": ""},
        {"something_new": {}},
        {"container": "c"},
        {"fallbacks": [{"model": "claude-opus-4-5"}]},
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"service_tier": "priority"},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
        {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        {"tools": [{"type": 5}]},
        {"tools": [{"type": ""}]},
        {"tools": {"type": "custom"}},
        {"context_management": {"edits": [{"type": "compact_20260112"}]}},
        {"stream": 1},
        {"stream": "true"},
        {"model": ""},
        {"model": 5},
        content({"type": "image", "source": FROM_WEB}),
        content({"type": "document", "source": FROM_WEB}),
        content({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        content({"type": "document"}),
        content({"type": "container_upload", "file_id": "f"}),
        content({"type": "tool_result", "content": [{"type": "image", "source": FROM_WEB}]}),
        content({"type": "film", "source": FROM_WEB}),
        content({"type": "film", "source": {"url": "https://example.com"}}),
        content({"type": "film", "source": {"type": ["url"]}}),
        content(
            {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": FROM_WEB}]}}
        ),
    ],
)
def test_ways_to_the_network_or_to_other_prices_are_refused(fields: dict[str, Any]) -> None:
    assert refusal(encode(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"name": "Bash", "input_schema": {}}, {"type": "custom", "name": "x"}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": None, "name": "x"}]},
        {"tools": [{"type": "computer_20250124", "name": "computer"}]},
        content({"type": "search_result", "source": "https://example.com", "title": "cited, not fetched"}),
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"speed": "standard", "inference_geo": None, "container": None, "mcp_servers": [], "fallbacks": None},
        {"something_new": None, "something_else": False, "something_more": []},
        {"fallback_credit_token": "t"},
        {"thinking": {"type": "enabled", "budget_tokens": 900}, "metadata": {"user_id": "x"}, "temperature": 1},
        {"system": [{"type": "text", "text": "You are…", "cache_control": {"type": "ephemeral"}}]},
        content(
            {"type": "tool_use", "input": {"type": "image", "source": FROM_WEB, "content": [{"source": FROM_WEB}]}}
        ),
        content({"type": "document", "source": {"type": "text", "data": "x"}}),
        {"messages": 5},
        {"messages": [5, {"content": 5}, {"content": [5]}]},
    ],
)
def test_what_the_cli_sends_is_taken(fields: dict[str, Any]) -> None:
    assert read_request(encode(**fields))


def test_operator_lets_a_field_pass_by_name_but_none_whose_price_is_known() -> None:
    also = {"something_new", "speed", "container"}

    assert read_request(encode(something_new={"a": 1}), also=also).unknown == ("something_new",)
    assert read_request(encode(something_else=1, something_empty=[]), also={"*"}).unknown == ("something_else",)
    with pytest.raises(ApiError, match="speed"):
        read_request(encode(speed="fast"), also={"*"})
    for fields in ({"speed": "fast"}, {"container": "c"}, {"something_else": 1}):
        with pytest.raises(ApiError, match=next(iter(fields))):
            read_request(encode(**fields), also=also)


def test_refusal_of_an_unknown_field_says_how_to_let_it_pass() -> None:
    assert "EKLAVYA_MODEL_FIELDS" in refusal(encode(something_new=1))


def test_pictures_cost_more_than_their_bytes() -> None:
    plain = content({"type": "text", "text": "x"}, {"type": "tool_result", "content": []})
    with_pictures = content(IMAGE, {"type": "tool_result", "content": [IMAGE]})

    def beyond_bytes(fields: dict[str, Any]) -> int:
        body = encode(**fields)
        return read_request(body).input_bound - len(body)

    assert beyond_bytes(with_pictures) - beyond_bytes(plain) == 10_000


def test_documents_may_fill_the_context() -> None:
    document = {**IMAGE, "type": "document"}

    assert read_request(encode(**content(document))).input_bound == 200_000
    assert read_request(encode(**content(document), model="claude-new-9")).input_bound == 1_000_000
    assert read_request(encode(**content({**IMAGE, "type": "film"}))).input_bound == 200_000


def test_no_prompt_is_longer_than_the_context() -> None:
    text = content({"type": "text", "text": "x" * 900_000})

    assert read_request(encode(**text)).input_bound == 200_000
    assert read_request(encode(**text, model="claude-new-9")).input_bound > 900_000


@pytest.mark.parametrize("ttl", [b'"1h"', b'"\\u0031h"'])
def test_long_cache_is_seen(ttl: bytes) -> None:
    body = encode(cache_control={"type": "ephemeral", "ttl": "5m"}).replace(b'"5m"', ttl)

    assert read_request(body).has_long_cache


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
FETCH = {"type": "web_fetch_20250910", "name": "web_fetch"}


def test_role_that_researches_may_have_the_api_read_the_web_and_pays_for_each_time() -> None:
    body = encode(tools=[SEARCH | {"max_uses": 3}, FETCH | {"max_uses": 2}])

    read = read_request(body, researches=True)

    assert read.fees == Decimal("0.03")
    # Each time it reads a whole context once more.
    assert read.input_bound == 6 * 200_000
    assert "egress class research" in refusal(body)


@pytest.mark.parametrize(
    "tool",
    [
        SEARCH,
        SEARCH | {"max_uses": 0},
        SEARCH | {"max_uses": 11},
        SEARCH | {"max_uses": True},
        FETCH | {"max_uses": "3"},
        {"type": "code_execution_20250825", "name": "code_execution", "max_uses": 1},
        {"type": "mcp_toolset", "mcp_server_name": "x", "max_uses": 1},
    ],
)
def test_what_has_no_bound_is_for_nobody(tool: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        read_request(encode(tools=[tool]), researches=True)


def test_second_model_gets_the_same_request() -> None:
    asked = read_request(encode(system="Grüße \ud83d\ude00"))

    second = with_model(asked, "claude-haiku-4-5")

    assert json.loads(second.body) == json.loads(asked.body) | {"model": "claude-haiku-4-5"}
    assert (second.model, second.max_tokens) == ("claude-haiku-4-5", asked.max_tokens)
    assert second.input_bound >= len(second.body)


def test_unknown_fields_inside_of_messages_and_tools_pass() -> None:
    body = encode(tools=[{"name": "x", "new": 1}], **content({"type": "new_block", "new": [1]}))

    assert read_request(body).body == body
