"""Who comes without a token of a working run is recorded at each door, and cannot fill the audit log."""

import asyncio
from typing import Any

import httpx
import pytest
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from agents.gateway import strangers
from agents.gateway.database import Database
from agents.gateway.strangers import Door, Strangers
from agents.models import Run
from projects.models import AuditLog
from tests.agents.gateway.harness import DEADLINE_S, ask, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

FORGED = {"authorization": "Bearer ekr_forged", "content-type": "application/json"}
MODELS = "/models/anthropic/v1"


def rows(action: str) -> list[AuditLog]:
    return list(AuditLog.objects.filter(action=action).order_by("seq"))


@pytest.mark.parametrize(
    ("method", "path", "status", "action"),
    [
        ("POST", f"{MODELS}/messages", 401, "model.refused"),
        ("POST", f"{MODELS}/messages/count_tokens", 401, "model.refused"),
        ("GET", f"{MODELS}/models", 401, "model.refused"),
        ("GET", f"{MODELS}/models/claude-sonnet-4-5", 401, "model.refused"),
        ("POST", "/mcp", 401, "mcp.refused"),
        ("GET", "/mcp", 401, "mcp.refused"),
        ("GET", f"{MODELS}/messages", 405, "gateway.refused"),
        ("POST", "/admin/login/", 404, "gateway.refused"),
    ],
)
def test_each_door_records_a_stranger_once_a_minute(
    gateway: str, method: str, path: str, status: int, action: str
) -> None:
    for _ in range(3):
        sent = {"headers": FORGED, "content": b"{}"}
        answer = httpx.request(method, gateway + path, **sent, timeout=DEADLINE_S, trust_env=False)
        assert answer.status_code == status
    wait_until(lambda: rows(action))

    (row,) = rows(action)
    assert (row.chain, row.details["from"], row.details["requests"]) == ("account", "127.0.0.1", 1)
    assert row.details.get("path") == (path if action == "gateway.refused" else None)
    assert "forged" not in str(row.details)


def test_browser_and_a_token_that_cannot_be_one_are_strangers_too(gateway: str) -> None:
    headers = {"origin": "http://evil"}
    assert httpx.post(f"{gateway}/mcp", headers=headers, timeout=DEADLINE_S, trust_env=False).status_code == 403
    wait_until(lambda: rows("mcp.refused"))


def test_token_of_a_run_that_has_ended_is_a_strangers(gateway: str, working: tuple[Run, str]) -> None:
    run, token = working
    Run.objects.filter(pk=run.pk).update(status="failed", finished_at=timezone.now(), token_hash="")
    for path, body in ((f"{MODELS}/messages", ask()), ("/mcp", {})):
        headers = {"x-api-key": token}
        answer = httpx.post(gateway + path, headers=headers, json=body, timeout=DEADLINE_S, trust_env=False)
        assert answer.status_code == 401
    wait_until(lambda: rows("model.refused") and rows("mcp.refused"))


def test_run_that_asks_for_what_is_not_there_is_recorded_by_its_name(client: httpx.Client, run: Run) -> None:
    for _ in range(2):
        assert client.get("/files").status_code == 404
    wait_until(lambda: rows("model.refused"))

    (row,) = rows("model.refused")
    assert (row.project_id, row.details["run"]) == (run.project_id, str(run.pk))
    assert row.details["why"].endswith("/v1/files")
    assert not rows("gateway.refused")


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_database_that_is_away_fails_no_answer(error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    class Away(Database):
        async def call(self, function: object, *args: object, **kwargs: object) -> Any:
            raise error("the connection is closed")

    database = Away()
    try:
        asyncio.run(Strangers(database).note(Door.MCP, "a", now=timezone.now()))
    finally:
        database.close()
    assert "could not be recorded" in caplog.text


def test_crowd_of_addresses_writes_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "MOST_ROWS", 2)
    now = [0.0]
    database = Database()
    seen = Strangers(database, clock=lambda: now[0])

    async def come(*peers: str) -> None:
        for peer in peers:
            await seen.note(Door.NONE, peer, now=timezone.now(), path="/" + "x" * 200)

    asyncio.run(come("a", "b", "c", "d", "a", "c"))
    assert [row.details["from"] for row in rows("gateway.refused")] == ["a", "b", "(others)"]
    now[0] = 60.0
    asyncio.run(come("a", "e", "f"))
    later = [(row.details["from"], row.details["requests"]) for row in rows("gateway.refused")][3:]
    assert later == [("a", 2), ("e", 1), ("(others)", 3)]
    assert {len(row.details["path"]) for row in rows("gateway.refused")} == {100}
    database.close()
