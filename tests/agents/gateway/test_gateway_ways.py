"""Whose key pays for a project's requests, in a running gateway."""

import asyncio
import time
from types import SimpleNamespace
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from pytest_django import Settings
from starlette.datastructures import Headers
from starlette.types import Send

from agents.gateway import remembering, ways
from agents.gateway.callers import Caller
from agents.gateway.database import Database
from agents.gateway.upstream import Upstream
from agents.gateway.ways import Ways
from projects.actions.secrets import remove_secret, set_secret
from projects.models import Project, Secret
from projects.secrets import ModelAccess
from tests.agents.gateway.conftest import KEY, StartGateway
from tests.agents.gateway.harness import ANSWER, ScriptedModel, answers, ask, serve, start_run, wait_until
from tests.agents.gateway.test_gateway_mcp import tools
from tests.factories import NOW, TESTER

LONGEST_S = ways.LONGEST_S
pytestmark = pytest.mark.django_db(transaction=True)


def keep(project: Project | None, value: str) -> None:
    set_secret(project, "ANTHROPIC_API_KEY", SecretStr(value), by=TESTER, now=NOW)


def send(gateway: str, token: str) -> httpx.Response:
    url, headers = f"{gateway}/models/anthropic/v1/messages", {"x-api-key": token}
    return httpx.post(url, json=ask(), headers=headers, trust_env=False, timeout=30)


@pytest.fixture(autouse=True)
def forget_at_once(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.EKLAVYA_ALLOW_LOCAL_RUNTIME = True
    monkeypatch.setattr(ways, "LONGEST_S", -1.0)


def test_project_with_a_key_of_its_own_pays_itself_at_the_models_own_address(
    start_gateway: StartGateway, settings: Settings
) -> None:
    house, real = ScriptedModel(answers(*ANSWER)), ScriptedModel(answers(*ANSWER))
    gateway = start_gateway(house)
    (mine, my_token), (_, other_token) = start_run(), start_run()
    with serve(real) as settings.EKLAVYA_KEYED_MODEL_URL:
        keep(mine.project, "of-the-project")
        assert [send(gateway, token).status_code for token in (my_token, other_token)] == [200, 200]
        keep(None, "of-the-account")
        assert [send(gateway, token).status_code for token in (my_token, other_token)] == [200, 200]

    assert [seen.headers["x-api-key"] for seen in house.seen] == [KEY]
    assert [seen.headers["x-api-key"] for seen in real.seen] == ["of-the-project", "of-the-project", "of-the-account"]


def test_key_that_cannot_be_read_ends_the_request_and_nobody_else_pays(
    start_gateway: StartGateway, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    house = ScriptedModel(answers(*ANSWER))
    gateway = start_gateway(house)
    run, token = start_run()
    keep(run.project, "of-the-project")
    settings.EKLAVYA_SECRET_KEYS = ["another-key-" * 4]

    answer = send(gateway, token)

    assert (answer.status_code, answer.json()["error"]["type"]) == (402, "billing_error")
    assert "ANTHROPIC_API_KEY" in answer.text
    assert house.seen == []
    assert "of-the-project" not in answer.text + caplog.text


def test_key_is_looked_up_once_in_a_while(
    start_gateway: StartGateway, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "LONGEST_S", 600.0)
    house = ScriptedModel(answers(*ANSWER))
    gateway = start_gateway(house)
    run, token = start_run()
    assert send(gateway, token).status_code == 200
    keep(run.project, "of-the-project")
    assert send(gateway, token).status_code == 200

    assert [seen.headers["x-api-key"] for seen in house.seen] == [KEY, KEY]


def test_key_is_looked_up_while_the_agents_program_connects(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, found = [], []

    def access_of(project_id: UUID, runtime: str) -> ModelAccess:
        looked.append(project_id)
        return real_access_of(project_id, runtime)

    async def of(self: Ways, caller: Caller) -> Upstream:
        way = await real_of(self, caller)
        found.append(way)
        return way

    real_access_of, real_of = ways.access_of, Ways.of
    monkeypatch.setattr(ways, "access_of", access_of)
    monkeypatch.setattr(Ways, "of", of)
    monkeypatch.setattr(ways, "LONGEST_S", 600.0)
    gateway = start_gateway(ScriptedModel(answers(*ANSWER)))
    run, token = start_run()
    tools(gateway, token)
    wait_until(lambda: found)

    assert send(gateway, token).status_code == 200
    assert looked == [run.project_id]


def test_removed_key_serves_no_request_that_comes_some_seconds_later(
    start_gateway: StartGateway, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "LONGEST_S", LONGEST_S)
    house, real = ScriptedModel(answers(*ANSWER)), ScriptedModel(answers(*ANSWER))
    gateway = start_gateway(house)
    run, token = start_run()
    with serve(real) as settings.EKLAVYA_KEYED_MODEL_URL:
        keep(run.project, "of-the-project")
        assert send(gateway, token).status_code == 200
        remove_secret(Secret.objects.get(), by=TESTER, now=NOW)
        later = time.monotonic() + 11
        monkeypatch.setattr(remembering, "time", SimpleNamespace(monotonic=lambda: later))
        assert send(gateway, token).status_code == 200

    assert [len(real.seen), len(house.seen)] == [1, 1]


def test_replaced_keys_are_forgotten_when_nothing_comes_through_them_any_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "KEPT_S", -1.0)
    settings.EKLAVYA_MODEL_KEY = KEY
    run, _ = start_run()
    caller = Caller(run_id=run.pk, agent_id=run.agent_id, project_id=run.project_id, model="", runtime="local")
    model = ScriptedModel(held_back)

    async def replace_keys() -> tuple[list[list[str]], bytes]:
        database = Database()
        ours = ways.Ways(database)
        await database.call(keep, run.project, "key-1")
        streaming = await (await ours.of(caller)).send("/v1/messages", b"{}", query="", headers=Headers())
        kept = []
        for value in ("key-2", "key-3"):
            await database.call(keep, run.project, value)
            await ours.of(caller)
            kept.append([key for _, key in ours._upstreams])
        model.go_on.set()
        answer = b"".join([chunk async for chunk in streaming.chunks()])
        streaming.close()
        await ours.of(caller)
        kept.append([key for _, key in ours._upstreams])
        await ours.close()
        database.close()
        return kept, answer

    with serve(model) as settings.EKLAVYA_KEYED_MODEL_URL:
        kept, answer = asyncio.run(replace_keys())

    assert kept == [["key-1", "key-2"], ["key-1", "key-3"], ["key-3"]]
    assert answer == b"".join(ANSWER)


async def held_back(model: ScriptedModel, send: Send) -> None:
    """The head at once, the rest when the test says so."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await model.wait()
    await send({"type": "http.response.body", "body": b"".join(ANSWER)})


def test_kept_key_is_not_used_for_an_agent_without_isolation(start_gateway: StartGateway, settings: Settings) -> None:
    settings.EKLAVYA_ALLOW_LOCAL_RUNTIME = False
    house, real = ScriptedModel(answers(*ANSWER)), ScriptedModel(answers(*ANSWER))
    gateway = start_gateway(house)
    (_, token), (_, docker_token) = start_run(runtime="local"), start_run(runtime="docker")
    assert send(gateway, token).status_code == 200  # the rehearsal model's agents are ours
    with serve(real) as settings.EKLAVYA_KEYED_MODEL_URL:
        keep(None, "of-the-account")
        refused, answered = send(gateway, token), send(gateway, docker_token)

    assert (refused.status_code, answered.status_code) == (402, 200)
    assert "EKLAVYA_ALLOW_LOCAL_RUNTIME" in refused.text
    assert (len(house.seen), len(real.seen)) == (1, 1)
