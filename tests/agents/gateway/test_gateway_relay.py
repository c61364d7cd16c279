"""Model requests through a running gateway: who may, what passes, and what it costs."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.db import OperationalError, connection

from agents.gateway.attempts import Attempts
from agents.gateway.callers import Caller, Callers
from agents.gateway.cashier import Cashier
from agents.gateway.database import Database
from agents.gateway.holds import Holds
from agents.gateway.limits import Places
from agents.gateway.model_request import read_request
from agents.gateway.refusals import Refusals
from agents.gateway.relay import MOST_AT_ONCE, Relay, Services
from agents.gateway.strangers import Strangers
from agents.gateway.ways import Ways
from agents.models import Run
from billing import queries
from billing.models import Budget, LedgerEntry, Reservation
from billing.prices import Usage
from projects.models import AuditLog, SquadMember
from tests.agents.gateway.conftest import KEY, StartGateway
from tests.agents.gateway.harness import (
    ANSWER,
    DEADLINE_S,
    ScriptedModel,
    answers,
    ask,
    cuts,
    message_start,
    refuses,
    stalls,
    start_run,
    text_delta,
    wait_until,
)

# 1000 tokens in and 200 out, at Sonnet's price
COST = Decimal("0.006")


def post(client: httpx.Client, body: object = None, **kwargs: object) -> httpx.Response:
    return client.post("/messages?beta=true", json=body or ask(), **kwargs)  # type: ignore[arg-type]


def error_of(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert body["type"] == "error"
    return response.status_code, body["error"]["type"]


def closed() -> bool:
    return Reservation.objects.exists() and not Reservation.objects.filter(status="open").exists()


def lines() -> list[str]:
    return list(LedgerEntry.objects.order_by("id").values_list("kind", flat=True))


def settled() -> LedgerEntry:
    wait_until(closed)
    return LedgerEntry.objects.get(kind="settle")


def test_answer_passes_unchanged(client: httpx.Client) -> None:
    response = post(client)

    assert response.status_code == 200
    assert response.content == b"".join(ANSWER)
    assert response.headers["content-type"] == "text/event-stream"
    assert "set-cookie" not in response.headers


def test_request_passes_with_the_real_key_instead_of_the_token(client: httpx.Client, model: ScriptedModel) -> None:
    token = client.headers["x-api-key"]
    body = json.dumps(ask()).encode() + b" \n"
    betas = {"anthropic-beta": "interleaved-thinking-2025-05-14,context-1m-2025-08-07", "x-app": "cli", "cookie": "a=b"}
    betas |= {"anthropic-workspace-id": "w", "anthropic-user-profile-id": "p"}
    client.post("/messages?beta=true", content=body, headers=betas)

    [seen] = model.seen
    assert (seen.path, seen.query, seen.body) == ("/v1/messages", "beta=true", body)
    assert seen.headers["x-api-key"] == KEY
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert seen.headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert seen.headers["x-app"] == "cli"
    assert token not in str(seen.headers)
    assert not {"cookie", "anthropic-workspace-id", "anthropic-user-profile-id"} & set(seen.headers)


def test_cost_is_settled_for_budgets_run_and_agent(client: httpx.Client, run: Run) -> None:
    post(client)

    line = settled()
    assert (line.input_tokens, line.output_tokens, line.amount) == (1_000, 200, COST)
    assert set(Budget.objects.values_list("reserved", "settled")) == {(0, COST)}
    run.refresh_from_db()
    run.agent.refresh_from_db()
    assert (run.turns, run.tokens_used, run.cost, run.agent.tokens_used) == (1, 1_200, COST, 1_200)
    assert run.first_request_at is not None


def test_money_is_held_before_the_model_is_asked(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = stalls(head=False)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, client)
        wait_until(lambda: model.seen)
        held = Reservation.objects.get(status="open")
        model.go_on.set()
        assert answer.result().status_code == 200
    # 1000 tokens of output and at least one token for each byte
    assert held.amount > Decimal("0.015") + len(json.dumps(ask())) * Decimal("0.00000375")


def test_answer_in_one_piece(client: httpx.Client, model: ScriptedModel) -> None:
    answer = {"type": "message", "content": [], "usage": {"input_tokens": 1_000, "output_tokens": 200}}
    model.behave = answers(json.dumps(answer).encode())

    assert post(client, ask(stream=False)).json() == answer
    assert settled().amount == COST


def test_token_as_bearer(client: httpx.Client) -> None:
    token = client.headers.pop("x-api-key")

    assert post(client, headers={"authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("headers", [{"x-api-key": ""}, {"x-api-key": "ekr_wrong"}, {"authorization": "Bearer x"}])
def test_unknown_token_is_refused(client: httpx.Client, model: ScriptedModel, headers: dict[str, str]) -> None:
    del client.headers["x-api-key"]

    assert error_of(post(client, headers=headers)) == (401, "authentication_error")
    assert model.seen == []


@pytest.mark.parametrize("status", ["queued", "evaluating", "merging"])
def test_run_that_does_not_work_now_is_refused(
    gateway: str, client: httpx.Client, model: ScriptedModel, status: str
) -> None:
    _, token = start_run(status=status)

    assert error_of(post(client, headers={"x-api-key": token})) == (401, "authentication_error")
    assert model.seen == []


def test_run_that_ended_a_moment_ago_is_refused(client: httpx.Client, model: ScriptedModel, run: Run) -> None:
    post(client)
    wait_until(closed)
    Run.objects.filter(pk=run.pk).update(status="failed", token_hash="", finished_at=run.created_at)

    assert error_of(post(client)) == (401, "authentication_error")
    assert len(model.seen) == 1


def test_run_that_is_asked_to_stop_is_refused(client: httpx.Client, model: ScriptedModel, run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(stop_requested="paused")

    assert error_of(post(client)) == (402, "billing_error")
    assert model.seen == []


@pytest.mark.parametrize("model_id", ["claude-opus-4-5", "claude-sonnet-4-5[1m]", "gpt-5"])
def test_other_models_are_refused(client: httpx.Client, model: ScriptedModel, model_id: str) -> None:
    assert error_of(post(client, ask(model=model_id))) == (404, "not_found_error")
    assert model.seen == []


@pytest.mark.parametrize("model_id", ["claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"])
def test_dated_and_small_models_are_taken(client: httpx.Client, model_id: str) -> None:
    assert post(client, ask(model=model_id)).status_code == 200
    assert settled().model == model_id[:-9]


def test_refused_request_is_not_forwarded(client: httpx.Client, model: ScriptedModel) -> None:
    assert error_of(post(client, ask(max_tokens=-1))) == (400, "invalid_request_error")
    assert model.seen == []
    assert not Reservation.objects.exists()


def test_body_that_is_too_long(client: httpx.Client, model: ScriptedModel) -> None:
    body = b" " * (32 * 1024 * 1024 + 1)

    assert error_of(client.post("/messages", content=body)) == (413, "request_too_large")
    assert error_of(client.post("/messages", content=iter([body]))) == (413, "request_too_large")
    assert model.seen == []


def test_packed_body_is_refused(client: httpx.Client, model: ScriptedModel) -> None:
    response = client.post("/messages", content=b"x", headers={"content-encoding": "gzip"})

    assert error_of(response) == (400, "invalid_request_error")


@pytest.mark.parametrize("scope", ["account", "project", "run"])
def test_request_over_a_limit_ends_the_run(client: httpx.Client, model: ScriptedModel, run: Run, scope: str) -> None:
    Budget.objects.filter(scope=scope).update(limit=Decimal("0.01"))

    response = post(client)

    assert error_of(response) == (402, "billing_error")
    assert f"budget of the {scope}" in response.json()["error"]["message"]
    assert model.seen == []
    run.refresh_from_db()
    assert run.stop_requested == ("run_budget" if scope == "run" else "over_budget")
    assert not Reservation.objects.exists()
    assert AuditLog.objects.filter(action="billing.refused").count() == 1
    assert AuditLog.objects.filter(action="run.stop_requested").count() == 1
    post(client)
    assert AuditLog.objects.filter(action="billing.refused").count() == 1


def test_request_that_must_wait_for_others_money(client: httpx.Client, model: ScriptedModel, run: Run) -> None:
    Budget.objects.filter(scope="run").update(limit=Decimal("0.04"))
    model.behave = stalls(head=False)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client)
        wait_until(lambda: model.seen)
        second = post(client)
        model.go_on.set()
        first.result()

    assert error_of(second) == (429, "rate_limit_error")
    assert second.headers["retry-after"] == "2"
    run.refresh_from_db()
    assert run.stop_requested == ""
    wait_until(closed)
    assert post(client).status_code == 200


def test_turn_limit_ends_the_run(client: httpx.Client, model: ScriptedModel, run: Run) -> None:
    SquadMember.objects.filter(pk=run.agent.member_id).update(max_turns=1)

    assert post(client).status_code == 200
    wait_until(closed)
    assert error_of(post(client)) == (402, "billing_error")
    run.refresh_from_db()
    assert run.stop_requested == "turn_limit"
    assert len(model.seen) == 1


def test_at_most_four_requests_of_a_run_at_once(gateway: str, client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = stalls(head=False)
    _, other = start_run()
    with ThreadPoolExecutor(MOST_AT_ONCE + 1) as pool:
        waiting = [pool.submit(post, client) for _ in range(MOST_AT_ONCE)]
        wait_until(lambda: len(model.seen) == MOST_AT_ONCE)
        refused = post(client)
        of_another = pool.submit(post, client, headers={"x-api-key": other})
        wait_until(lambda: len(model.seen) == MOST_AT_ONCE + 1)
        model.go_on.set()
        assert {answer.result().status_code for answer in [*waiting, of_another]} == {200}

    assert error_of(refused) == (429, "rate_limit_error")
    wait_until(closed)
    # A place is free a moment after its money is settled.
    wait_until(lambda: post(client).status_code == 200)


@pytest.mark.parametrize("status", [429, 500, 529])
def test_models_refusal_passes_and_costs_nothing(client: httpx.Client, model: ScriptedModel, status: int) -> None:
    model.behave = refuses(status, b'{"type":"error"}', retry_after="7", anthropic_ratelimit_requests_limit="5")

    response = post(client)

    assert (response.status_code, response.content) == (status, b'{"type":"error"}')
    assert response.headers["retry-after"] == "7"
    assert response.headers["anthropic-ratelimit-requests-limit"] == "5"
    wait_until(closed)
    assert lines() == ["reserve", "release"]


def test_model_that_is_not_there(start_gateway: StartGateway) -> None:
    address = start_gateway("http://127.0.0.1:9")
    run, token = start_run()

    path, headers = f"{address}/models/anthropic/v1/messages", {"x-api-key": token}
    response = httpx.post(path, json=ask(), headers=headers, timeout=DEADLINE_S)

    assert error_of(response) == (529, "overloaded_error")
    wait_until(closed)
    assert lines() == ["reserve", "release"]
    run.refresh_from_db()
    assert run.turns == 0


def test_cut_answer_is_cut_for_the_client_and_paid_as_delivered(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = cuts(message_start(), text_delta("x" * 300))

    with pytest.raises(httpx.RemoteProtocolError):
        post(client)

    line = settled()
    assert (line.input_tokens, line.output_tokens) == (1_000, 100)


def test_answer_cut_before_it_began_costs_nothing(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = cuts(b": ping\n\n")

    with pytest.raises(httpx.RemoteProtocolError):
        post(client)

    wait_until(closed)
    assert lines() == ["reserve", "release"]


def test_answer_that_is_none_costs_nothing(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = answers(b"<html>502 Bad Gateway \xff\xfe</html>")

    assert b"Bad Gateway" in post(client).content
    wait_until(closed)
    assert lines() == ["reserve", "release"]


def test_client_that_leaves_in_the_middle_pays_for_what_came(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = stalls(message_start(), text_delta("x" * 300))
    with client.stream("POST", "/messages", json=ask()) as response:
        received = b""
        for chunk in response.iter_raw():
            received += chunk
            if b"xxx" in received:
                break

    line = settled()
    assert (line.input_tokens, line.output_tokens) == (1_000, 100)
    assert model.left.wait(60), "the model goes on working for nobody"


def test_client_that_leaves_before_the_answer_pays_for_the_input(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = stalls(head=False)

    async def ask_and_leave() -> None:
        async with httpx.AsyncClient(headers=client.headers, timeout=DEADLINE_S, trust_env=False) as leaving:
            asking = asyncio.create_task(leaving.post(f"{client.base_url}messages", json=ask()))
            await asyncio.to_thread(wait_until, lambda: model.seen)
            asking.cancel()
            await asyncio.wait({asking})
        assert asking.cancelled()

    asyncio.run(ask_and_leave())

    line = settled()
    assert line.input_tokens > 20
    assert line.output_tokens == 0
    assert model.left.wait(60)


def test_stream_arrives_as_it_is_made(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = stalls(message_start())
    with client.stream("POST", "/messages", json=ask()) as response:
        first = next(response.iter_raw())
        model.go_on.set()
        rest = response.read() if not response.is_stream_consumed else b""

    assert first.startswith(b"event: message_start")
    assert rest == b"" or b"message_stop" in rest


def test_counting_tokens_costs_nothing(client: httpx.Client, model: ScriptedModel) -> None:
    model.behave = answers(b'{"input_tokens": 12}')
    body = {key: value for key, value in ask().items() if key in {"model", "messages"}}

    assert client.post("/messages/count_tokens?beta=true", json=body).json() == {"input_tokens": 12}
    assert model.seen[0].path == "/v1/messages/count_tokens"
    assert not Reservation.objects.exists()


def test_models_are_those_of_the_run(client: httpx.Client) -> None:
    assert [one["id"] for one in client.get("/models").json()["data"]] == ["claude-sonnet-4-5", "claude-haiku-4-5"]
    assert client.get("/models/claude-haiku-4-5").json()["id"] == "claude-haiku-4-5"
    assert error_of(client.get("/models/claude-opus-4-5")) == (404, "not_found_error")
    assert error_of(client.get("/models", headers={"x-api-key": "no"})) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/files", 404), ("POST", "/messages/batches", 404), ("GET", "/messages", 405)],
)
def test_nothing_else_is_served(client: httpx.Client, method: str, path: str, status: int) -> None:
    assert client.request(method, path).status_code == status


class RestartingCashier(Cashier):
    """A till whose database is away at first."""

    calls = 0

    async def close(self, *args: Any, **kwargs: Any) -> Decimal:
        self.calls += 1
        if self.calls == 1:
            raise OperationalError("the database system is starting up")
        return await super().close(*args, **kwargs)


@pytest.mark.django_db(transaction=True)
def test_settling_waits_for_a_database_that_restarts() -> None:
    run, _ = start_run()
    caller = Caller(run.pk, run.agent_id, run.project_id, run.model)
    cashier = RestartingCashier()
    relay = relay_with(cashier)

    async def hold_and_close() -> None:
        held = await relay.hold(caller, read_request(json.dumps(ask()).encode()), 1)
        await relay.close(caller, held, Usage(1_000, 200))
        await cashier.stop()

    asyncio.run(hold_and_close())

    assert settled().amount == COST
    assert cashier.calls == 2


def relay_with(cashier: Cashier) -> Relay:
    database = Database()
    services = Services(
        callers=Callers(database, Holds("gateway")),
        database=database,
        cashier=cashier,
        ways=Ways(database),
        attempts=Attempts(0),
        places=Places(1),
        refusals=Refusals(database),
        strangers=Strangers(database),
    )
    return Relay("/v1/messages", services)


def test_health(gateway: str) -> None:
    assert httpx.get(f"{gateway}/healthz", timeout=DEADLINE_S).json() == {"status": "ok"}


def test_crowd_never_exceeds_the_limit(gateway: str, model: ScriptedModel) -> None:
    run, token = start_run(limit="0.1")
    start = threading.Barrier(MOST_AT_ONCE)

    def work(check: Callable[[], None]) -> list[int]:
        start.wait(60)
        url, headers = f"{gateway}/models/anthropic/v1/messages", {"x-api-key": token}
        with httpx.Client(trust_env=False, timeout=30) as client:
            statuses = [0]
            give_up = time.monotonic() + DEADLINE_S * 4
            while statuses[-1] != 402:
                assert time.monotonic() < give_up, statuses
                statuses.append(client.post(url, json=ask(), headers=headers).status_code)
                check()
                time.sleep(0.1 if statuses[-1] == 429 else 0)
            return statuses[1:]

    def check() -> None:
        budget = Budget.objects.get(scope="run", scope_id=run.pk)
        assert budget.settled + budget.reserved <= budget.limit

    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        found = [
            status
            for result in [pool.submit(closing, work, check) for _ in range(MOST_AT_ONCE)]
            for status in result.result()
        ]

    wait_until(closed)
    run.refresh_from_db()
    assert run.cost == queries.project_cost(run.project_id) == COST * found.count(200)
    assert run.stop_requested == "run_budget"
    assert set(found) <= {200, 402, 429}


def closing(work: Callable[[Callable[[], None]], list[int]], check: Callable[[], None]) -> list[int]:
    try:
        return work(check)
    finally:
        connection.close()


def test_refusals_are_audited_once_for_each_reason(client: httpx.Client) -> None:
    for model in ("claude-opus-4-5", "claude-opus-4-5", "made-up"):
        post(client, ask(model=model))
    wait_until(lambda: AuditLog.objects.filter(action="model.refused").count() >= 2)
    # in any order: each is written in a transaction of its own
    first, second = sorted(AuditLog.objects.filter(action="model.refused"), key=lambda row: row.details["why"])
    run = Run.objects.get()
    assert (first.project_id, first.agent_id) == (run.project_id, run.agent_id)
    assert (first.details["run"], first.details["status"]) == (str(run.pk), 404)
    assert "made-up" in second.details["why"]


def test_a_run_cannot_fill_the_audit_log_with_refusals(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.gateway.refusals.MOST_OF_A_RUN", 3)
    for number in range(6):
        post(client, ask(model=f"made-up-{number}"))
    wait_until(lambda: AuditLog.objects.filter(action="model.refused").count() >= 3)
    post(client)
    # in any order: each is written in a transaction of its own
    marks = [row.details.get("last") for row in AuditLog.objects.filter(action="model.refused")]
    assert (len(marks), marks.count(True)) == (3, 1)
