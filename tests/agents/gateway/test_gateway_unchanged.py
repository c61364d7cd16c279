"""What passes the model gateway, byte for byte: requests to the API and its answers, but for what the table names.

The table is in docs/security-model.md.
"""

import gzip
import json
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from billing.models import LedgerEntry, Reservation
from projects.models import AuditLog
from tests.agents.gateway.conftest import KEY
from tests.agents.gateway.harness import ANSWER, Behaviour, ScriptedModel, ask, event, wait_until

# Not as any JSON library writes it: blanks, escapes, the order of members, numbers in odd forms.
BODY = (
    rb"""
 {"stream" :true, "max_tokens":1000,"model":"claude-sonnet-4-5" ,
  "messages":[{"role":"user","content":[{"type":"text","text":"caf\u00e9 \/ \ud83d\ude00 \ud83d",
    "cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"new_block","new":{"a":[1.0E+2,-0.0]}}]},
   {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"EqQB+/=="},
    {"type":"redacted_thinking","data":"Em=="},{"type":"tool_use","id":"t","name":"Bash","input":{"b":1,"a":2}}]},
   {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"done","is_error":false}]}],
  "thinking":{"type":"adaptive","display":"summarized"},"temperature":1.0,"stop_sequences":["\u0000"],
  "system":[{"type":"text","text":"""
    + '"naïve ☃"'.encode()
    + rb""", "cache_control":{"type":"ephemeral"}}],"metadata":{"user_id":"u"},
  "context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
  "output_config":{"effort":"high"},"tool_choice":{"type":"auto","disable_parallel_tool_use":true},
  "tools":[{"name":"Bash","input_schema":{"type":"object"},"new":true}]}  """
)
SENT = [
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"interleaved-thinking-2025-05-14, made-up-2031-01-01,claude-code-20250219"),
    (b"anthropic-beta", b"prompt-caching-scope-2026-01-05"),
    (b"anthropic-dangerous-direct-browser-access", b"true"),
    (b"content-type", b"application/json; charset=utf-8"),
    (b"user-agent", b"claude-cli/2.1 (external, sdk-cli)"),
    (b"x-app", b"cli"),
    (b"x-new", "naïve ☃".encode()),
    (b"x-stainless-retry-count", b"0"),
    (b"accept", b"application/json"),
]
# By whoever sends a request, and the key in the token's place.
OF_THE_WAY = {b"host", b"content-length", b"x-api-key", b"accept-encoding", b"connection"}
RETURNED = [
    (b"anthropic-ratelimit-requests-remaining", b"4"),
    (b"cf-ray", b"9f"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"date", b"Sat, 21 Nov 2026 09:00:00 GMT"),
    (b"request-id", b"req_1"),
    (b"server", b"cloudflare"),
    (b"via", b"1.1 a"),
    (b"via", b"1.1 b"),
    (b"x-new", b"na\xefve"),
]
NOT_RETURNED = [
    (b"anthropic-organization-id", b"o"),
    (b"connection", b"keep-alive, x-hop"),
    (b"set-cookie", b"a=b"),
    (b"x-echo", f"the key is {KEY}".encode()),
    (b"x-hop", b"1"),
]
# Another order and form than the scripted answers: pings, blanks, CRLF, an unknown event, a stop reason.
PIECES = [
    *ANSWER[:2],
    b'event: ping\r\ndata:  {"type" :"ping"}\r\n\r\n',
    event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "Eq=="}),
    b": a comment\n\nevent: new_event\ndata: {}\n\n",
    event("message_delta", delta={"stop_reason": "refusal", "stop_sequence": None}, usage={"output_tokens": 7}),
    ANSWER[-1],
]


def replies(status: int, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> Behaviour:
    async def behave(model: ScriptedModel, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return behave


def post(client: httpx.Client, path: str = "/messages?beta=true&x=%2F", body: bytes = BODY) -> httpx.Response:
    """Send with no header but those that are named."""
    headers = [*SENT, (b"x-api-key", client.headers["x-api-key"].encode())]
    request = httpx.Request("POST", f"{client.base_url}".rstrip("/") + path, headers=headers, content=body)
    return client.send(request)


def test_request_reaches_the_api_as_it_was_sent(client: httpx.Client, model: ScriptedModel) -> None:
    assert post(client).status_code == 200

    [seen] = model.seen
    assert (seen.path, seen.query, seen.body) == ("/v1/messages", "beta=true&x=%2F", BODY)
    assert sorted(pair for pair in seen.raw if pair[0] not in OF_THE_WAY) == sorted(SENT)
    assert (seen.headers["x-api-key"], seen.headers["accept-encoding"]) == (KEY, "identity")


def test_counting_reaches_the_api_as_it_was_sent(client: httpx.Client, model: ScriptedModel) -> None:
    answer = b' {"input_tokens" : 12 ,"new":[]}\n'
    model.behave = replies(200, [(b"content-length", b"%d" % len(answer)), *RETURNED], answer)
    body = BODY.replace(b'"max_tokens":1000,', b"")

    response = post(client, "/messages/count_tokens?beta=true", body)

    assert response.content == answer
    assert (model.seen[0].path, model.seen[0].body) == ("/v1/messages/count_tokens", body)
    assert sorted(response.headers.raw) == sorted([(b"content-length", b"%d" % len(answer)), *RETURNED])


@pytest.mark.parametrize(("status", "pieces"), [(200, PIECES), (400, [b'{"type": "error",', b' "error":{}} \n'])])
def test_answer_reaches_the_run_as_the_api_sent_it(
    client: httpx.Client, model: ScriptedModel, status: int, pieces: list[bytes]
) -> None:
    model.behave = replies(status, RETURNED + NOT_RETURNED, *pieces)

    response = post(client)

    assert (response.status_code, response.content) == (status, b"".join(pieces))
    framing = {b"transfer-encoding", b"content-length"}
    assert sorted(pair for pair in response.headers.raw if pair[0] not in framing) == sorted(RETURNED)


def test_answer_keeps_its_headers_in_a_house_without_a_key(client: httpx.Client, settings: Settings) -> None:
    settings.EKLAVYA_MODEL_KEY = ""

    assert post(client).headers["content-type"] == "text/event-stream"


def test_beta_of_another_price_is_taken_out_and_no_other(client: httpx.Client, model: ScriptedModel) -> None:
    betas = "a-1, CONTEXT-1M-2025-08-07 ,b-2"
    client.post("/messages", json=ask(), headers={"anthropic-beta": betas})
    client.post("/messages", json=ask(), headers={"anthropic-beta": "context-1m-2025-08-07"})

    assert model.seen[0].headers["anthropic-beta"] == "a-1,b-2"
    assert "anthropic-beta" not in model.seen[1].headers


def test_answer_that_is_packed_all_the_same_passes_and_costs_what_was_held(
    client: httpx.Client, model: ScriptedModel
) -> None:
    packed = gzip.compress(b"".join(ANSWER))
    model.behave = replies(200, [(b"content-encoding", b"gzip")], packed)

    response = post(client)

    assert response.content == b"".join(ANSWER)
    wait_until(lambda: LedgerEntry.objects.filter(kind="settle").exists())
    assert LedgerEntry.objects.get(kind="settle").amount == Reservation.objects.get().amount > 0


def test_unknown_field_that_the_operator_lets_pass_is_recorded_once(
    client: httpx.Client, model: ScriptedModel, settings: Settings
) -> None:
    settings.EKLAVYA_MODEL_FIELDS = frozenset({"something_new"})
    for _ in range(2):
        assert client.post("/messages", json=ask(something_new={"a": 1})).status_code == 200

    assert json.loads(model.seen[1].body)["something_new"] == {"a": 1}
    rows = AuditLog.objects.filter(action="model.unknown_field")
    wait_until(rows.exists)
    assert [row.details["field"] for row in rows] == ["something_new"]
