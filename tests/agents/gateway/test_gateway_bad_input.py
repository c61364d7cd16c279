"""What comes in broken goes out as the API's own kind of error, with nothing held; and the key goes out nowhere."""

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import httpx
import pytest
from django.apps import apps
from django.db import connection
from django.utils import timezone
from starlette.types import Send

from agents.gateway.database import Database
from agents.models import Run
from billing.actions import expire_reservations
from billing.models import Budget, LedgerEntry, Reservation
from tests.agents.gateway.conftest import KEY, StartGateway
from tests.agents.gateway.harness import (
    ANSWER,
    DEADLINE_S,
    ScriptedModel,
    ask,
    cuts,
    event,
    message_start,
    refuses,
    start_run,
    text_delta,
    wait_until,
)


def refusal(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert body["type"] == "error"
    assert body["error"]["message"]
    assert response.headers["request-id"] == body["request_id"]
    return response.status_code, body["error"]["type"]


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in ask().items() if key != name}


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_other_content_types_are_refused(client: httpx.Client, model: ScriptedModel, kind: str) -> None:
    response = client.post("/messages", content=json.dumps(ask()), headers={"content-type": kind})

    assert refusal(response) == (400, "invalid_request_error")
    assert model.seen == []
    assert not Reservation.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"x"',
        b"{" * 50_000,
        json.dumps(without("max_tokens")).encode(),
        json.dumps(without("model")).encode(),
        json.dumps(ask(max_tokens=-5)).encode(),
        json.dumps(ask(max_tokens=1e400)).encode(),
        json.dumps(ask(max_tokens="NaN")).encode(),
        json.dumps(ask(model="\u0000")).encode(),
        json.dumps(ask(stream="yes")).encode(),
        json.dumps(ask(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}])).encode(),
    ],
)
def test_broken_bodies_are_refused(client: httpx.Client, model: ScriptedModel, body: bytes) -> None:
    response = client.post("/messages", content=body, headers={"content-type": "application/json"})

    status, kind = refusal(response)
    assert (status, kind) in {(400, "invalid_request_error"), (404, "not_found_error")}
    assert model.seen == []
    assert not Reservation.objects.exists()


def test_a_length_that_is_a_lie_holds_nothing(gateway: str, working: tuple[Run, str]) -> None:
    parts = urlsplit(gateway)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        head = f"POST /models/anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {working[1]}\r\n"
        raw.sendall(f"{head}content-length: 100000\r\n\r\n".encode() + b"{")
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        raw.sendall(f"{head}content-length: -1\r\n\r\n".encode() + b"{}")
        assert b" 400 " in raw.recv(1_000)

    assert httpx.get(f"{gateway}/healthz", timeout=DEADLINE_S).status_code == 200
    assert not Reservation.objects.exists()


@pytest.mark.parametrize(
    "chunks",
    [
        [message_start(input_tokens=-5, output_tokens=-1)],
        [message_start(input_tokens=10**30)],
        [event("message_start", message={"usage": {"input_tokens": "many"}}), text_delta("x")],
        [b"data: {\n\n", b"data: [[[[\n\n", b"\xff\xfe\n\n", message_start()],
        [message_start()[:40]],
        [message_start(), b'event: content_block_delta\ndata: {"type": "content_block_delta", "del'],
    ],
)
def test_streams_that_are_nonsense_or_break_off_are_closed(
    client: httpx.Client, model: ScriptedModel, chunks: list[bytes]
) -> None:
    model.behave = cuts(*chunks)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/messages", json=ask())

    wait_until(lambda: Reservation.objects.exists() and not Reservation.objects.filter(status="open").exists())
    for budget in Budget.objects.filter(limit__isnull=False):
        assert budget.reserved == 0
        assert 0 <= budget.settled <= (budget.limit or 0)
    kinds = list(LedgerEntry.objects.order_by("id").values_list("kind", flat=True))
    assert kinds[0] == "reserve"
    assert kinds[1] in {"settle", "release"}


@pytest.mark.parametrize(
    ("asked", "kind", "answer"),
    [
        (False, "text/event-stream; charset=utf-8", ANSWER),
        (True, "application/json", [b'{"type": "message", "usage": {"input_tokens": 1000, "output_tokens": 200}}']),
        (True, "text/html", [b"\n", *ANSWER]),
    ],
)
def test_answer_of_another_content_type_than_was_asked_for_is_paid(
    client: httpx.Client, model: ScriptedModel, asked: bool, kind: str, answer: list[bytes]
) -> None:
    model.behave = refuses(200, b"".join(answer), content_type=kind)

    assert client.post("/messages", json=ask(stream=asked)).status_code == 200

    wait_until(lambda: LedgerEntry.objects.filter(kind__in=["settle", "release"]).exists())
    assert set(Budget.objects.values_list("reserved", "settled")) == {(Decimal(0), Decimal("0.006"))}


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_clock_that_jumps_between_holding_and_settling_loses_nothing(
    client: httpx.Client, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    real = timezone.now
    times = iter([real(), *(real() + jump,) * 100])
    monkeypatch.setattr("agents.gateway.relay.timezone.now", lambda: next(times))

    assert client.post("/messages", json=ask()).status_code == 200

    wait_until(lambda: Reservation.objects.exists() and not Reservation.objects.filter(status="open").exists())
    assert set(Budget.objects.values_list("reserved", "settled")) == {(Decimal(0), Decimal("0.006"))}


def test_clock_before_any_price_is_a_clear_refusal(
    client: httpx.Client, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.gateway.relay.timezone.now", lambda: datetime(1970, 1, 1, tzinfo=UTC))

    assert refusal(client.post("/messages", json=ask())) == (404, "not_found_error")
    assert model.seen == []


def test_request_that_outlives_its_reservation_is_corrected_when_it_ends(
    client: httpx.Client, model: ScriptedModel
) -> None:
    model.behave = cuts(message_start(), text_delta("x" * 300))

    original, database, held = model.behave, Database(), []

    def expire() -> None:
        held.append(Reservation.objects.get().amount)
        expire_reservations(timezone.now() + timedelta(hours=1))

    async def behave(model: ScriptedModel, send: Send) -> None:
        await database.call(expire)
        await original(model, send)

    model.behave = behave
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/messages", json=ask())

    real = Decimal("0.0045")  # 1000 tokens in, and 300 letters out as 100 tokens
    wait_until(lambda: LedgerEntry.objects.filter(kind="adjust").exists())
    assert set(Budget.objects.values_list("reserved", "settled")) == {(Decimal(0), real)}
    assert LedgerEntry.objects.get(kind="adjust").amount == real - held[0]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def all_rows() -> str:
    """Every row of every table, as text."""
    found = []
    with connection.cursor() as cursor:
        for table in {model._meta.db_table for model in apps.get_models()}:
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            found += [row[0] for row in cursor.fetchall()]
    return "\n".join(found)


def test_key_is_in_no_log_answer_or_row(
    start_gateway: StartGateway,
    model: ScriptedModel,
    logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    address = start_gateway(model)
    _, token = start_run()
    answers: list[httpx.Response] = []

    def send(**fields: object) -> None:
        url = f"{address}/models/anthropic/v1/messages"
        with suppress(httpx.RemoteProtocolError):
            answers.append(httpx.post(url, json=ask(**fields), headers={"x-api-key": token}, timeout=30))

    good = model.behave
    bad = [refuses(401, b'{"type":"error"}'), refuses(400), refuses(529), cuts(), cuts(message_start())]
    for behaviour in (good, *bad):
        model.behave = behaviour
        send()
    send(max_tokens=-1)
    away = start_gateway("http://127.0.0.1:9")
    path, own = f"{away}/models/anthropic/v1", {"x-api-key": token}
    answers.append(httpx.post(f"{path}/messages", json=ask(), headers=own, timeout=DEADLINE_S))
    answers.append(httpx.get(f"{path}/models", headers=own, timeout=DEADLINE_S))

    assert any(seen.headers["x-api-key"] == KEY for seen in model.seen), "the canary was planted"
    said = [answer.text + str(answer.headers) for answer in answers]
    assert len(said) >= 7
    # The test's own client logs what it sends.
    lines = [one.getMessage() for one in logged.records if not one.name.startswith(("httpx", "httpcore"))]
    assert any("model" in line for line in lines)
    for place in (*said, *lines, all_rows()):
        assert KEY not in place
        assert token not in place
    assert KEY not in capfd.readouterr().err
