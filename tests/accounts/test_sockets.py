"""WebSockets of programs: by key, within its scope and project, and until it is revoked."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.db import connections
from django.utils import timezone

from accounts import actions
from eklavya import consumers
from eklavya.routing import websocket_urlpatterns
from eklavya.sockets import SessionOrKey
from projects.live import broadcast
from tests.accounts.making import key_of
from tests.factories import ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
APP = SessionOrKey(URLRouter(websocket_urlpatterns))


@pytest.fixture(autouse=True)
async def _give_connections_back() -> AsyncIterator[None]:
    yield
    await sync_to_async(connections.close_all)()


async def opened(path: str, name: bytes, value: str) -> ApplicationCommunicator:
    headers = [(name, value.encode())]
    socket = ApplicationCommunicator(APP, {"type": "websocket", "path": path, "headers": headers, "subprotocols": []})
    await socket.send_input({"type": "websocket.connect"})
    return socket


@sync_to_async
def two_projects() -> tuple[UUID, UUID]:
    return ProjectFactory().pk, ProjectFactory().pk


@sync_to_async
def make_key(*scopes: str, project_id: UUID | None = None) -> Any:
    return key_of(UserFactory(), *scopes, project_id=project_id, now=timezone.now())


async def first_news(path: str, authorization: str) -> Any:
    """What the socket says first: {"type": "hello"}, or the code it closes with."""
    socket = await opened(path, b"authorization", authorization)
    assert (await socket.receive_output(60))["type"] == "websocket.accept"
    news = await socket.receive_output(60)
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(60)
    return news.get("code") or json.loads(news["text"])["type"]


async def test_key_hears_of_what_it_may_see() -> None:
    mine, other = await two_projects()
    _, all_ = await make_key("projects:read")
    _, bound = await make_key("projects:read", project_id=mine)
    _, without = await make_key("money:read")

    house = "/ws/events/"
    assert await first_news(house, f"Bearer {all_}") == "hello"
    assert await first_news(f"/ws/projects/{other}/", f"Bearer {all_}") == "hello"
    assert await first_news(f"/ws/projects/{mine}/", f"Bearer {bound}") == "hello"
    assert await first_news(f"/ws/projects/{other}/", f"Bearer {bound}") == consumers.NO_SUCH_PROJECT
    assert await first_news(house, f"Bearer {bound}") == consumers.NO_SUCH_PROJECT
    assert await first_news(house, f"Bearer {without}") == consumers.NOT_SIGNED_IN
    assert await first_news(house, "Bearer x") == consumers.NOT_SIGNED_IN


async def test_revoked_key_hears_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK_S", 0)
    key, text = await make_key("projects:read")
    socket = await opened("/ws/events/", b"authorization", f"Bearer {text}")
    assert (await socket.receive_output(60))["type"] == "websocket.accept"
    assert json.loads((await socket.receive_output(60))["text"]) == {"type": "hello"}
    await sync_to_async(actions.revoke_key)(key, by=key.owner, now=timezone.now())

    await sync_to_async(broadcast)({"id": "1", "type": "x", "payload": {}}, project_id=None)

    assert (await socket.receive_output(60))["code"] == consumers.NOT_SIGNED_IN


async def test_page_of_another_site_opens_no_socket() -> None:
    socket = await opened("/ws/events/", b"origin", "https://evil.example")

    assert (await socket.receive_output(60))["type"] == "websocket.close"
