"""Asking a model again: what is, for how long, and what the others learn from it."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from agents.gateway.attempts import Attempts, Breaker, Refusal, Silent
from agents.gateway.upstream import Unreachable
from agents.models import Run
from billing.models import LedgerEntry, Reservation
from projects.models import SquadMember
from tests.agents.gateway.conftest import StartGateway
from tests.agents.gateway.harness import Behaviour, ScriptedModel, ask, refuses, start_run, wait_until


class Clock:
    """A clock that a test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def fails(times: int, breaker: Breaker) -> None:
    for _ in range(times):
        assert breaker.wait_s() == 0
        breaker.failed()


def test_breaker_opens_after_failures_in_a_row_and_lets_one_try() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fails(4, breaker)
    breaker.succeeded()
    fails(5, breaker)

    assert breaker.wait_s() == 5
    clock.now = 5
    assert breaker.wait_s() == 0
    assert breaker.wait_s() > 0, "one is on its way already"
    breaker.succeeded()
    assert breaker.wait_s() == 0


def test_breaker_waits_longer_each_time_and_not_for_ever() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fails(5, breaker)
    waits = []
    for _ in range(6):
        clock.now += breaker.wait_s()
        assert breaker.wait_s() == 0
        breaker.failed()
        waits.append(breaker.wait_s())

    assert waits == [10, 20, 40, 60, 60, 60]


def test_probe_that_nobody_waits_for_leaves_the_way_to_the_next() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fails(5, breaker)
    clock.now = 5
    assert breaker.wait_s() == 0
    breaker.abandoned()

    assert breaker.wait_s() == 0


def test_attempts_that_may_have_cost_something_are_counted() -> None:
    async def send() -> None:
        raise Unreachable(ConnectionResetError(), was_sent=True)

    with pytest.raises(Silent) as silent:
        asyncio.run(Attempts(0.6).ask(send, of="x"))  # type: ignore[arg-type]

    assert silent.value.lost == 2


def test_reason_that_a_refusal_gives_is_no_outage_unless_it_passes() -> None:
    assert Refusal(529, [], b"").is_outage
    assert not Refusal(400, [], b"").is_outage


def first(times: int, behaviour: Behaviour, then: Behaviour) -> Behaviour:
    async def behave(model: ScriptedModel, send: Callable[..., object]) -> None:
        await (behaviour if len(model.seen) <= times else then)(model, send)  # type: ignore[arg-type]

    return behave


def post(address: str, token: str, **fields: object) -> httpx.Response:
    url = f"{address}/models/anthropic/v1/messages"
    return httpx.post(url, json=ask(**fields), headers={"x-api-key": token}, timeout=30, trust_env=False)


def closed() -> bool:
    return Reservation.objects.exists() and not Reservation.objects.filter(status="open").exists()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_what_passes_is_asked_again_and_the_agent_sees_nothing_of_it(
    start_gateway: StartGateway, model: ScriptedModel, status: int
) -> None:
    model.behave = first(2, refuses(status, retry_after="0"), model.behave)
    address = start_gateway(model, patience_s=20)
    run, token = start_run()

    assert post(address, token).status_code == 200

    assert len(model.seen) == 3
    wait_until(closed)
    assert list(LedgerEntry.objects.order_by("id").values_list("kind", flat=True)) == ["reserve", "settle"]
    assert Run.objects.get(pk=run.pk).model_silent_since is None


@pytest.mark.parametrize(
    ("status", "headers"),
    [(400, {}), (401, {}), (413, {}), (529, {"x_should_retry": "false"}), (429, {"retry_after": "99"})],
)
def test_what_does_not_pass_in_time_is_handed_on_at_once(
    start_gateway: StartGateway, model: ScriptedModel, status: int, headers: dict[str, str]
) -> None:
    model.behave = refuses(status, b'{"type":"error"}', **headers)
    address = start_gateway(model, patience_s=20)
    _, token = start_run()

    assert post(address, token).status_code == status
    assert len(model.seen) == 1


def test_silence_is_noted_until_the_model_answers(start_gateway: StartGateway, model: ScriptedModel) -> None:
    model.behave = first(1, refuses(529), model.behave)
    address = start_gateway(model)
    run, token = start_run()

    assert post(address, token).status_code == 529
    assert Run.objects.get(pk=run.pk).model_silent_since is not None
    assert post(address, token).status_code == 200
    wait_until(lambda: Run.objects.get(pk=run.pk).model_silent_since is None)


def test_second_model_is_asked_where_the_first_does_not_answer(
    start_gateway: StartGateway, model: ScriptedModel
) -> None:
    model.behave = first(1, refuses(529), model.behave)
    address = start_gateway(model)
    run, token = start_run()
    SquadMember.objects.filter(pk=run.agent.member_id).update(fallback_model="claude-haiku-4-5")

    assert post(address, token).status_code == 200

    assert [json.loads(seen.body)["model"] for seen in model.seen] == ["claude-sonnet-4-5", "claude-haiku-4-5"]
    wait_until(closed)
    lines = list(LedgerEntry.objects.order_by("id").values_list("kind", "model"))
    assert lines == [
        ("reserve", "claude-sonnet-4-5"),
        ("release", "claude-sonnet-4-5"),
        ("reserve", "claude-haiku-4-5"),
        ("settle", "claude-haiku-4-5"),
    ]


def test_provider_that_is_down_is_left_alone_by_all(start_gateway: StartGateway, model: ScriptedModel) -> None:
    model.behave = refuses(529)
    address = start_gateway(model)
    tokens = [start_run()[1] for _ in range(2)]

    for _ in range(4):
        for token in tokens:
            assert post(address, token).status_code == 529

    assert len(model.seen) == 5
