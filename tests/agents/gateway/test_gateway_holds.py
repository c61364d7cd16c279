"""A run is served by one process, so that what is counted in its memory is all there is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
from django.db import connection

from agents.gateway import holds as module
from agents.gateway.holds import Holds, ServedElsewhere
from agents.models import Run
from projects.ids import new_id
from tests.agents.gateway.conftest import StartGateway
from tests.agents.gateway.harness import DEADLINE_S, ScriptedModel, ask
from tests.factories import RunFactory

pytestmark = pytest.mark.django_db(transaction=True)
Two = Callable[[Holds, Holds], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HANDOVER_S", 0.1)


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Holds, Holds]]:
    """Two processes' worth."""
    pair = Holds("gateway"), Holds("gateway")
    yield pair
    for one in pair:
        await one.stop()


def test_a_run_is_held_by_one() -> None:
    async def check() -> None:
        run, other = new_id(), new_id()
        async with two() as (first, second):
            await first.take(run)
            await first.take(run)
            await second.take(other)
            with pytest.raises(ServedElsewhere):
                await second.take(run)
            await first.stop()
            await second.take(run)
            with pytest.raises(ServedElsewhere):
                await first.take(run)

    asyncio.run(check())


def test_services_of_different_kinds_do_not_know_each_other() -> None:
    async def check() -> None:
        run, gateway, egress = new_id(), Holds("gateway"), Holds("egress")
        await gateway.take(run)
        await egress.take(run)
        await gateway.stop()
        await egress.stop()

    asyncio.run(check())


def test_whoever_lost_its_connection_has_to_take_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server let go of its locks: another one may have them by now."""
    monkeypatch.setattr(module, "_SURE_FOR_S", 0.0)

    async def check() -> None:
        run = new_id()
        async with two() as (first, second):
            await first.take(run)
            assert first._connection is not None
            pid = first._connection.info.backend_pid
            async with await psycopg.AsyncConnection.connect(**PARAMETERS) as killer:
                await killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            await second.take(run)
            with pytest.raises(ServedElsewhere):
                await first.take(run)

    given = connection.get_connection_params()
    PARAMETERS = {name: given[name] for name in ("dbname", "user", "password", "host", "port") if name in given}
    asyncio.run(check())


def test_whoever_does_not_wait_leaves_the_connection_whole() -> None:
    async def check() -> None:
        run = new_id()
        async with two() as (first, second):
            await first.take(new_id())
            kept = first._connection
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(first.take(run), timeout=0)
            await first.take(run)
            assert first._connection is kept
            with pytest.raises(ServedElsewhere):
                await second.take(run)

    asyncio.run(check())


def test_ended_runs_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY", 2)
    ended, working = RunFactory(status="failed"), RunFactory(status="running")

    async def check() -> None:
        async with two() as (first, second):
            for run in (ended, working):
                await first.take(run.pk)
            await first.take(new_id())
            await second.take(ended.pk)
            with pytest.raises(ServedElsewhere):
                await second.take(working.pk)

    asyncio.run(check())


def test_a_second_gateway_refuses_what_the_first_one_serves(
    start_gateway: StartGateway, model: ScriptedModel, working: tuple[Run, str], client: httpx.Client
) -> None:
    assert client.post("/messages", json=ask()).status_code == 200
    other = start_gateway(model)
    headers = {"x-api-key": working[1], "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=other, headers=headers, timeout=DEADLINE_S, trust_env=False) as second:
        model_answer = second.post("/models/anthropic/v1/messages", json=ask())
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        mcp_answer = second.post("/mcp", json=call, headers={"accept": "application/json, text/event-stream"})

    assert (model_answer.status_code, model_answer.json()["error"]["type"]) == (529, "overloaded_error")
    assert (mcp_answer.status_code, "Another process" in mcp_answer.text) == (503, True)
    assert client.post("/messages", json=ask()).status_code == 200
