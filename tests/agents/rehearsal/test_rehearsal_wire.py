"""The Messages API as a client sees it: the official SDK, raw requests, errors and usage."""

import json
from typing import Any

import anthropic
import httpx
import pytest

from tests.agents.rehearsal.rehearsal_support import context, request_body

HEADERS = {"x-api-key": "rehearsal", "anthropic-version": "2023-06-01"}
HELLO = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def client(model_url: str) -> Any:
    with httpx.Client(base_url=model_url, headers=HEADERS, timeout=20) as client:
        yield client


@pytest.fixture
def sdk(model_url: str) -> Any:
    with anthropic.Anthropic(base_url=model_url, api_key="rehearsal", max_retries=0) as sdk:
        yield sdk


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream; each event's name has to be its data's type."""
    found = []
    for part in response.text.strip().split("\n\n"):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_the_sdk_reads_an_answer(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(**HELLO)

    assert message.stop_reason == "end_turn"
    assert "rehearsal" in message.content[0].text
    assert message.usage.output_tokens > 0


def test_the_sdk_reads_a_stream_with_tool_calls(sdk: anthropic.Anthropic) -> None:
    body = request_body(context("pm", "requirements"))
    body.pop("stream")

    with sdk.messages.stream(**body) as stream:
        message = stream.get_final_message()

    uses = {block.name: block.input for block in message.content if block.type == "tool_use"}
    assert message.stop_reason == "tool_use"
    assert uses["Write"]["content"].startswith("# Requirements: Tool Library")
    assert uses["mcp__eklavya__report_progress"]["percent"] == 30


def test_a_stream_has_its_events_in_order(client: httpx.Client) -> None:
    response = client.post("/v1/messages?beta=true", json=request_body(context("developer", "demo"), stream=True))

    found = events(response)
    kinds = [event["type"] for event in found]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert kinds[:2] == ["message_start", "ping"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    opened = [event["index"] for event in found if event["type"] == "content_block_start"]
    assert opened == list(range(len(opened)))
    for index in opened:
        own = [event["type"] for event in found if event.get("index") == index]
        assert own[0] == "content_block_start"
        assert own[-1] == "content_block_stop"
        assert set(own[1:-1]) == {"content_block_delta"}


def test_tool_input_comes_in_several_pieces(client: httpx.Client) -> None:
    found = events(client.post("/v1/messages", json=request_body(context("pm", "requirements"), stream=True)))

    pieces: dict[int, list[str]] = {}
    for event in found:
        if event.get("delta", {}).get("type") == "input_json_delta":
            pieces.setdefault(event["index"], []).append(event["delta"]["partial_json"])
    assert max(map(len, pieces.values())) > 5
    assert all(isinstance(json.loads("".join(parts)), dict) for parts in pieces.values())


def test_the_stream_says_what_the_whole_answer_says(client: httpx.Client) -> None:
    task = context("architect", "plan")

    whole = client.post("/v1/messages", json=request_body(task)).json()
    found = events(client.post("/v1/messages", json=request_body(task, stream=True)))

    assert found[0]["message"]["id"] == whole["id"]
    assert found[-2]["usage"] == whole["usage"]
    assert found[-2]["delta"]["stop_reason"] == whole["stop_reason"]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in HELLO.items() if key != name}


TOOL_USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}]}
TOOL_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (without("max_tokens"), "max_tokens: Field required"),
        (without("messages"), "messages: Field required"),
        (without("model"), "model: Field required"),
        ({**HELLO, "max_tokens": 0}, "max_tokens"),
        ({**HELLO, "max_tokens": "many"}, "max_tokens"),
        ({**HELLO, "messages": []}, "at least one message"),
        ({**HELLO, "messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({**HELLO, "messages": [{"role": "user"}]}, "messages.0.content"),
        ({**HELLO, "messages": ["x"]}, "messages.0"),
        ({**HELLO, "tools": [{}]}, "tools"),
        ({**HELLO, "stream": "yes"}, "stream"),
        ({**HELLO, "messages": [HELLO["messages"][0], TOOL_USE, HELLO["messages"][0]]}, "without `tool_result`"),
        ({**HELLO, "messages": [HELLO["messages"][0], TOOL_RESULT]}, "unexpected `tool_use_id`"),
        ([], "JSON object"),
    ],
)
def test_a_malformed_request_is_400(client: httpx.Client, body: Any, message: str) -> None:
    response = client.post("/v1/messages", json=body)

    assert response.status_code == 400
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert message in response.json()["error"]["message"]
    assert response.json()["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_is_400(client: httpx.Client, content: bytes) -> None:
    response = client.post("/v1/messages", content=content)

    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"authorization": "Bearer"}])
def test_a_request_without_a_key_is_401(model_url: str, headers: dict[str, str]) -> None:
    response = httpx.post(
        f"{model_url}/v1/messages", headers={"anthropic-version": "2023-06-01", **headers}, json=HELLO
    )

    assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication_error")


def test_a_request_without_a_version_is_400(model_url: str) -> None:
    response = httpx.post(f"{model_url}/v1/messages", headers={"x-api-key": "k"}, json=HELLO)

    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_bearer_token_is_a_key(model_url: str) -> None:
    headers = {"authorization": "Bearer token", "anthropic-version": "2023-06-01"}

    assert httpx.post(f"{model_url}/v1/messages", headers=headers, json=HELLO).status_code == 200


@pytest.mark.parametrize("model", ["claude-nonsense-9", "gpt-4", "claude-opus-5-5 ", "x" * 1000])
def test_an_unknown_model_is_404(client: httpx.Client, model: str) -> None:
    response = client.post("/v1/messages", json={**HELLO, "model": model})

    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("model", ["claude-haiku-4-5-20251001", "claude-opus-5-5[1m]", "claude-sonnet-5"])
def test_a_dated_or_marked_model_is_known(client: httpx.Client, model: str) -> None:
    assert client.post("/v1/messages", json={**HELLO, "model": model}).status_code == 200


def test_an_unknown_path_is_404_in_the_apis_shape(client: httpx.Client) -> None:
    response = client.get("/v1/nothing")

    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")
    assert client.get("/v1/messages").status_code == 405


def test_a_body_over_32_megabytes_is_413(client: httpx.Client) -> None:
    response = client.post("/v1/messages", content=b" " * (32 * 1024 * 1024 + 1))

    assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")


def test_models_are_listed_and_shown(sdk: anthropic.Anthropic) -> None:
    listed = sdk.models.list().data

    assert "claude-sonnet-5-5" in {model.id for model in listed}
    assert sdk.models.retrieve(listed[0].id).display_name == listed[0].display_name
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve("claude-nonsense-9")


def test_tokens_are_counted_without_max_tokens(sdk: anthropic.Anthropic) -> None:
    short = sdk.messages.count_tokens(model=HELLO["model"], messages=HELLO["messages"]).input_tokens
    long = sdk.messages.count_tokens(
        model=HELLO["model"], messages=[{"role": "user", "content": "x" * 4000}]
    ).input_tokens

    assert 0 < short < 50
    assert 1000 <= long < 1050


def test_the_health_page_needs_no_key(model_url: str) -> None:
    assert httpx.get(f"{model_url}/healthz").json() == {"status": "ok"}


def test_an_answer_stops_at_max_tokens(client: httpx.Client) -> None:
    answer = client.post("/v1/messages", json={**HELLO, "max_tokens": 3}).json()

    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"]["output_tokens"] == 3


def test_calls_that_exceed_max_tokens_come_in_several_turns(client: httpx.Client) -> None:
    body = {**request_body(context("pm", "requirements")), "max_tokens": 120}

    first = client.post("/v1/messages", json=body).json()

    assert first["stop_reason"] == "tool_use"
    assert [block["name"] for block in first["content"][1:]] == ["mcp__eklavya__report_progress", "Read"]


def cached(body: dict[str, Any]) -> dict[str, Any]:
    system = [{"type": "text", "text": "You work.", "cache_control": {"type": "ephemeral"}}]
    return {**body, "system": system}


def test_usage_reads_from_the_cache_what_was_sent_before(client: httpx.Client) -> None:
    body = cached(request_body(context("mentor", "mentor")))
    first = client.post("/v1/messages", json=body).json()
    uses = [block for block in first["content"] if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": use["id"], "content": "x" * 400} for use in uses]
    added = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": results}]

    second = client.post("/v1/messages", json={**body, "messages": body["messages"] + added}).json()

    before, after = first["usage"], second["usage"]
    assert before["cache_read_input_tokens"] == 0
    assert after["cache_read_input_tokens"] == before["cache_creation_input_tokens"] + before["input_tokens"]
    assert after["cache_creation_input_tokens"] > 100 * len(uses)


def test_usage_without_a_cache_breakpoint_is_plain_input(client: httpx.Client) -> None:
    usage = client.post("/v1/messages", json=HELLO).json()["usage"]

    assert usage["input_tokens"] > 0
    assert usage["cache_creation_input_tokens"] == usage["cache_read_input_tokens"] == 0


def test_the_same_request_gets_the_same_answer(client: httpx.Client) -> None:
    body = request_body(context("developer", "demo"))

    assert client.post("/v1/messages", json=body).json() == client.post("/v1/messages", json=body).json()


def test_a_lone_surrogate_breaks_nothing(client: httpx.Client) -> None:
    text = json.dumps(request_body(context("pm", "requirements", brief="\ud800 track tools and members of our club")))

    for content in (text, text.replace("claude-sonnet-5-5", "\\ud800")):
        response = client.post("/v1/messages", content=content.encode())
        assert response.status_code in {200, 404}
        response.json()


def test_a_brief_of_a_megabyte_is_worked_on(client: httpx.Client) -> None:
    brief = "Track tools and members of our club. " + "} </task-context> {<[[" * 50_000

    answer = client.post("/v1/messages", json=request_body(context("pm", "requirements", brief=brief))).json()

    assert answer["content"][-1]["input"]["file_path"] == "docs/requirements.md"


def test_a_side_call_without_tools_is_answered_in_words(client: httpx.Client) -> None:
    body = request_body(context("developer", "demo"))
    del body["tools"]

    answer = client.post("/v1/messages", json=body).json()

    assert [block["type"] for block in answer["content"]] == ["text"]


def test_a_broken_context_is_answered_in_words(client: httpx.Client) -> None:
    for block in ("{}", "{", "[]", '{"project": 3, "task": [], "attempt": "x", "questions": {"a": 1}}'):
        body = request_body(context("mentor", "mentor"))
        body["messages"][0]["content"] = f"<task-context>\n{block}\n</task-context>"
        assert client.post("/v1/messages", json=body).status_code == 200
