"""Each misbehaviour that can be ordered, as a client sees it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from agents.rehearsal.context import find_context
from agents.rehearsal.misbehaviour import Memory, conduct, orders
from agents.rehearsal.server import create_app
from tests.agents.rehearsal.rehearsal_support import context, request_body, serving

HEADERS = {"x-api-key": "rehearsal", "anthropic-version": "2023-06-01"}


class Clock:
    """A clock that tests move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(clock: Clock) -> Iterator[httpx.Client]:
    with (
        serving(create_app(memory=Memory(clock))) as url,
        httpx.Client(base_url=url, headers=HEADERS, timeout=60) as client,
    ):
        yield client


def ordered(order: str, *, stream: bool = True, **more: Any) -> dict[str, Any]:
    """A first request of a developer whose brief carries an order."""
    task = context("developer", "build", brief=f"Track tools and members [[rehearsal: {order}]] please", **more)
    return request_body(task, stream=stream)


def statuses(client: httpx.Client, body: dict[str, Any], times: int) -> list[int]:
    return [client.post("/v1/messages", json=body).status_code for _ in range(times)]


def test_429_lasts_its_seconds_and_says_how_long(client: httpx.Client, clock: Clock) -> None:
    body = ordered("429 for=60")

    first = client.post("/v1/messages", json=body)
    clock.now += 45
    second = client.post("/v1/messages", json=body)
    clock.now += 15
    third = client.post("/v1/messages", json=body)

    assert first.json()["error"]["type"] == "rate_limit_error"
    assert (first.status_code, first.headers["retry-after"]) == (429, "60")
    assert (second.status_code, second.headers["retry-after"]) == (429, "15")
    assert third.status_code == 200


def test_529_happens_so_many_times_per_run(client: httpx.Client) -> None:
    assert statuses(client, ordered("529 times=3"), 4) == [529, 529, 529, 200]
    assert statuses(client, ordered("529 times=3"), 1) == [529]


def test_500_happens_once_by_default(client: httpx.Client) -> None:
    assert statuses(client, ordered("500"), 2) == [500, 200]


def test_after_lets_requests_pass_first(client: httpx.Client) -> None:
    assert statuses(client, ordered("529 after=2"), 4) == [200, 200, 529, 200]


def test_the_sdk_sees_an_overloaded_error(client: httpx.Client) -> None:
    sdk = anthropic.Anthropic(base_url=str(client.base_url), api_key="rehearsal", max_retries=0)
    body = {**ordered("529"), "max_tokens": 4000}
    body.pop("stream")

    with sdk, pytest.raises(anthropic.APIStatusError) as caught:
        sdk.messages.create(**body)

    assert caught.value.status_code == 529
    assert caught.value.body["error"]["type"] == "overloaded_error"


def test_a_cut_stream_ends_in_the_middle(client: httpx.Client) -> None:
    body = ordered("cut")
    received: list[str] = []

    with client.stream("POST", "/v1/messages", json=body) as response, pytest.raises(httpx.RemoteProtocolError):
        received.extend(response.iter_text())

    assert "message_start" in "".join(received)
    assert "message_stop" not in "".join(received)
    assert "message_stop" in client.post("/v1/messages", json=body).text


def test_a_slow_stream_pauses_before_each_event(client: httpx.Client) -> None:
    started = time.monotonic()

    text = client.post("/v1/messages", json=ordered("slow delay=0.02")).text

    assert time.monotonic() - started >= 0.02 * text.count("event: ")


def test_a_stalled_stream_opens_and_stays_silent(client: httpx.Client) -> None:
    received: list[str] = []

    with client.stream("POST", "/v1/messages", json=ordered("stall"), timeout=0.5) as response:
        with pytest.raises(httpx.ReadTimeout):
            received.extend(response.iter_text())

        assert response.status_code == 200
    assert "event:" not in "".join(received)


def test_garbage_is_no_event_stream(client: httpx.Client) -> None:
    response = client.post("/v1/messages", json=ordered("garbage"))

    assert response.status_code == 200
    assert b"event:" not in response.content
    with pytest.raises(ValueError, match=r"codec|Expecting"):
        client.post("/v1/messages", json=ordered("garbage", stream=False)).json()


def test_garbage_input_is_no_json(client: httpx.Client) -> None:
    text = client.post("/v1/messages", json=ordered("garbage mode=input")).text

    found = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    pieces = [
        event["delta"]["partial_json"] for event in found if event.get("delta", {}).get("type") == "input_json_delta"
    ]
    assert found[-1]["type"] == "message_stop"
    with pytest.raises(ValueError, match="Expecting"):
        json.loads("".join(pieces))


@pytest.mark.parametrize(
    ("order", "concerned"),
    [
        ("529 role=developer", True),
        ("529 role=tester", False),
        ("529 kind=build", True),
        ("529 kind=demo", False),
        ("529 task=storage role=developer kind=build", True),
        ("529 task=pages", False),
        ("418", False),
        ("529 colour=red", False),
        ("529 times=many", False),
    ],
)
def test_an_order_concerns_those_it_names(order: str, concerned: bool) -> None:
    found = find_context(ordered(order, key="storage"))

    assert found is not None
    assert bool(orders(found)) is concerned


@pytest.mark.parametrize("place", ["description", "title"])
def test_an_order_may_stand_in_the_task(place: str) -> None:
    found = find_context(request_body(context("qa", **{place: "Look [[rehearsal: 529]]"})))

    assert found is not None
    assert [order.fault for order in orders(found)] == ["529"]


def test_an_order_may_stand_in_the_feedback() -> None:
    task = context("developer", "demo", feedback=[{"demo": 1, "text": "Nicer [[ Rehearsal: slow ]]"}])
    found = find_context(request_body(task))

    assert found is not None
    assert [order.fault for order in orders(found)] == ["slow"]


def test_conduct_ends_with_its_attempts() -> None:
    first, second = (find_context(ordered("broken", attempt=attempt)) for attempt in (1, 2))

    assert first is not None
    assert second is not None
    assert (conduct(first), conduct(second)) == ({"broken"}, set())


def say(client: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls of the next answer."""
    answer = client.post("/v1/messages", json={**body, "stream": False}).json()
    body["messages"].append({"role": "assistant", "content": answer["content"]})
    uses = [block for block in answer["content"] if block["type"] == "tool_use"]
    if uses:
        results = [{"type": "tool_result", "tool_use_id": use["id"], "content": "ok"} for use in uses]
        body["messages"].append({"role": "user", "content": results})
    return uses


def test_a_loop_never_stops_calling_tools(client: httpx.Client) -> None:
    body = ordered("loop")

    assert all(say(client, body) for _ in range(30))


def test_hostile_conduct_looks_where_it_should_not_and_then_works(client: httpx.Client) -> None:
    body = ordered("hostile")

    first, second = say(client, body), say(client, body)

    tried = json.dumps([use["input"] for use in first])
    for target in ("/etc/passwd", "/proc/", "../", "169.254.169.254", "docker.sock", "env;"):
        assert target in tried
    assert second[0]["name"] == "mcp__eklavya__report_progress"


@pytest.mark.parametrize(("order", "verb"), [("fail", "task_failed"), ("block", "task_blocked"), ("ask", "ask_mentor")])
def test_a_run_can_end_badly(client: httpx.Client, order: str, verb: str) -> None:
    body = ordered(order)

    assert [use["name"] for use in say(client, body)] == [f"mcp__eklavya__{verb}"]
    assert say(client, body) == []


def test_a_silent_run_ends_without_a_verb(client: httpx.Client) -> None:
    body = ordered("silent")

    assert [use["name"] for use in say(client, body)] == ["mcp__eklavya__read_messages"]
    assert say(client, body) == []


def test_a_broken_change_is_handed_in_untested(client: httpx.Client) -> None:
    body = ordered("broken", key="storage")
    uses = [use["input"] for _ in range(5) for use in say(client, body)]

    assert any(use.get("file_path") == "tests/test_broken.py" for use in uses)
    assert any("git commit" in use.get("command", "") for use in uses)
    assert not any("unittest" in use.get("command", "") for use in uses)


def test_memory_forgets_the_oldest_runs(clock: Clock) -> None:
    memory = Memory(clock)
    first = find_context(ordered("529"))
    assert first is not None
    assert memory.next_fault(first)
    assert memory.next_fault(first) is None

    for _ in range(2001):
        other = find_context(ordered("529"))
        assert other is not None
        memory.next_fault(other)

    assert memory.next_fault(first)
