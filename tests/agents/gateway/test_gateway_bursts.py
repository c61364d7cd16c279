"""Many agents that speak in one moment, and a database that is away for one: whoever calls waits and is served."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from django.db import connection, connections

from agents.gateway import mcp_server, tokens
from agents.gateway.database import THREADS, Database
from agents.gateway.lane import Lane, Row, Step
from agents.models import Run
from projects.models import AuditLog
from projects.roles import Role
from tests.agents.gateway.harness import DEADLINE_S, start_run, wait_until
from tests.factories import ProjectFactory, TaskFactory

HEADERS = {"accept": "application/json, text/event-stream"}
MANY = 60
# As long as one exchange takes where the event loop has much else to do: for each alone it would be 12 s.
SLOW_S = 0.2


def message(verb: str, **arguments: Any) -> dict[str, Any]:
    call = {"name": verb, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}


def post(gateway: str, token: str, verb: str, **arguments: Any) -> httpx.Response:
    headers = HEADERS | {"authorization": f"Bearer {token}"}
    return httpx.post(f"{gateway}/mcp", json=message(verb, **arguments), headers=headers, timeout=DEADLINE_S)


def told(answer: httpx.Response) -> tuple[str, bool]:
    """Return what an agent reads in an answer, and whether that is an error."""
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    return result["content"][0]["text"], result["isError"]


def test_all_are_served_that_hand_in_at_one_moment(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project = ProjectFactory(status="building")
    made = [
        start_run(project=project, task=TaskFactory(project=project, role=Role.DEVELOPER, status="in_progress"))
        for _ in range(MANY)
    ]
    quick = Lane.run

    async def slow(self: Lane, steps: Sequence[Step], **kwargs: float) -> list[list[Row]]:
        await asyncio.sleep(SLOW_S)
        return await quick(self, steps, **kwargs)

    async def hand_in() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=MANY)
        async with httpx.AsyncClient(headers=HEADERS, timeout=DEADLINE_S, limits=limits, trust_env=False) as client:
            body = message("task_complete", summary="Done.")
            calls = [
                client.post(f"{gateway}/mcp", json=body, headers={"authorization": f"Bearer {token}"})
                for _, token in made
            ]
            return await asyncio.gather(*calls)

    monkeypatch.setattr(Lane, "run", slow)
    answers = asyncio.run(hand_in())

    assert {told(one) for one in answers} == {("Recorded. End your turn now.", False)}
    assert not Run.objects.filter(outcome={}).exists()


def test_no_more_threads_ask_than_there_are_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a burst each then waits for a thread, and not for a connection, which is given up after a while."""
    default = connections.settings["default"]
    pooled = default | {"OPTIONS": default.get("OPTIONS", {}) | {"pool": {"max_size": 2}}}
    with monkeypatch.context() as patch:
        patch.setitem(connections.settings, "default", pooled)
        database = Database()
    at_once, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return number

    async def burst() -> list[int]:
        return await asyncio.gather(*(database.call(work, number) for number in range(2 * THREADS)))

    try:
        assert asyncio.run(burst()) == list(range(2 * THREADS))
    finally:
        database.close()
    assert most == 2


@contextmanager
def closed_database() -> Iterator[None]:
    """Let nobody connect to the database. Who is connected stays so: the gateway goes on to know its tokens."""
    given = connection.get_connection_params()
    elsewhere = {name: given[name] for name in ("user", "password", "host", "port") if name in given}
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with psycopg.connect(**elsewhere, dbname="postgres", autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            yield
        finally:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def work_as_developer() -> tuple[Run, str]:
    return start_run(task=TaskFactory(role=Role.DEVELOPER, status="in_progress"))


def test_a_call_waits_for_the_database(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    run, token = work_as_developer()
    assert told(post(gateway, token, "read_messages")) == ("No messages.", False)

    with ThreadPoolExecutor(1) as pool:
        with closed_database():
            answer: Future[httpx.Response] = pool.submit(post, gateway, token, "task_complete", summary="Done.")
            wait_until(lambda: "a verb waits for the database" in caplog.text)
        assert told(answer.result(DEADLINE_S)) == ("Recorded. End your turn now.", False)

    run.refresh_from_db()
    assert run.outcome["verb"] == "task_complete"


def test_an_agent_that_gives_up_because_of_the_platform_is_excused(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run, token), (other, other_token) = work_as_developer(), work_as_developer()
    for one in (token, other_token):
        assert told(post(gateway, one, "read_messages")) == ("No messages.", False)

    monkeypatch.setattr(mcp_server, "_PATIENCE_S", 0.0)
    with closed_database():
        sentence, is_error = told(post(gateway, token, "task_complete", summary="Done."))
    assert (is_error, "database does not answer" in sentence) == (True, True)
    for one in (token, other_token):
        assert told(post(gateway, one, "task_failed", reason="It fails twice.")) == (
            "Recorded. End your turn now.",
            False,
        )

    run.refresh_from_db()
    other.refresh_from_db()
    assert (run.outcome.get("unserved"), other.outcome.get("unserved")) == (True, None)
    ended = AuditLog.objects.filter(action="mcp.ended").values_list("object_id", "details")
    assert dict(ended) == {
        str(run.pk): {"verb": "task_failed", "unserved": True},
        str(other.pk): {"verb": "task_failed"},
    }


def test_whose_token_could_not_be_asked_is_excused_too(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, token = work_as_developer()
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "_PATIENCE_S", 0.0)
        assert post(gateway, token, "task_complete", summary="Done.").status_code == 503

    assert told(post(gateway, token, "task_failed", reason="It fails twice."))[1] is False

    run.refresh_from_db()
    assert run.outcome["unserved"] is True
