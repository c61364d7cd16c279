"""The live events of a page."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser, User
from django.db import connections

from eklavya import consumers
from eklavya.routing import websocket_urlpatterns
from projects.ids import new_id
from projects.live import ALL_GROUP, News, broadcast_many, project_group
from tests.factories import ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
EVENT = {"id": "1", "type": "project:status", "payload": {"status": "demo"}}


@pytest.fixture(autouse=True)
async def _give_connections_back() -> AsyncIterator[None]:
    yield
    await sync_to_async(connections.close_all)()


async def opened(path: str, user: User | AnonymousUser) -> ApplicationCommunicator:
    """Open a WebSocket. Channels' own communicator would need Daphne."""
    scope = {"type": "websocket", "path": path, "headers": [], "subprotocols": [], "user": user}
    socket = ApplicationCommunicator(URLRouter(websocket_urlpatterns), scope)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(timeout=60))["type"] == "websocket.accept"
    return socket


async def heard(socket: ApplicationCommunicator) -> Any:
    return json.loads((await socket.receive_output(timeout=60))["text"])


async def close(socket: ApplicationCommunicator) -> None:
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(60)


async def send(group: str, event: dict[str, Any]) -> None:
    await get_channel_layer().group_send(group, {"type": "live.events", "events": [event]})


async def joined(socket: ApplicationCommunicator) -> None:
    """Wait until the socket is in its group: it accepts before it looks up the right to be there."""
    assert await heard(socket) == {"type": "hello"}


async def test_a_visitor_is_told_to_sign_in() -> None:
    socket = await opened("/ws/events/", AnonymousUser())

    assert await socket.receive_output(timeout=60) == {"type": "websocket.close", "code": consumers.NOT_SIGNED_IN}


async def test_who_is_switched_off_is_told_to_sign_in() -> None:
    user = await sync_to_async(UserFactory)(is_active=False)

    socket = await opened("/ws/events/", user)

    assert (await socket.receive_output(timeout=60))["code"] == consumers.NOT_SIGNED_IN


async def test_no_such_project() -> None:
    user = await sync_to_async(UserFactory)()

    socket = await opened(f"/ws/projects/{new_id()}/", user)

    assert (await socket.receive_output(timeout=60))["code"] == consumers.NO_SUCH_PROJECT


async def test_the_house_hears_of_every_project() -> None:
    socket = await opened("/ws/events/", await sync_to_async(UserFactory)())
    await joined(socket)

    await send(ALL_GROUP, EVENT)

    assert await heard(socket) == EVENT
    await close(socket)


async def test_a_project_hears_of_itself_alone() -> None:
    project = await sync_to_async(ProjectFactory)()
    socket = await opened(f"/ws/projects/{project.pk}/", await sync_to_async(UserFactory)())
    await joined(socket)

    await send(project_group(new_id()), {**EVENT, "id": "other"})
    await send(project_group(project.pk), EVENT)

    assert await heard(socket) == EVENT
    assert await socket.receive_nothing()
    await close(socket)


async def test_what_is_told_together_comes_in_order_and_to_each_its_own() -> None:
    mine, other = await sync_to_async(ProjectFactory.create_batch)(2)
    user = await sync_to_async(UserFactory)()
    house, project = await opened("/ws/events/", user), await opened(f"/ws/projects/{mine.pk}/", user)
    await joined(house)
    await joined(project)
    events = [{**EVENT, "id": str(number)} for number in range(4)]
    of = [mine.pk, other.pk, None, mine.pk]

    broadcast_many(News(*one) for one in zip(events, of, strict=True))

    assert [await heard(house) for _ in events] == events
    assert [await heard(project) for _ in range(2)] == [events[0], events[3]]
    assert await project.receive_nothing()
    await close(house)
    await close(project)


async def test_a_group_gets_what_is_told_together_in_one_message() -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(ALL_GROUP, channel)
    events = [{**EVENT, "id": str(number)} for number in range(3)]

    broadcast_many(News(event, new_id()) for event in events)

    assert await layer.receive(channel) == {"type": "live.events", "events": events}
    await layer.group_discard(ALL_GROUP, channel)


async def test_a_right_that_ended_ends_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    user = await sync_to_async(UserFactory)()
    socket = await opened("/ws/events/", user)
    await joined(socket)
    monkeypatch.setattr(consumers, "RECHECK_S", 0)
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)

    await send(ALL_GROUP, EVENT)

    assert (await socket.receive_output(timeout=60))["code"] == consumers.NOT_SIGNED_IN


async def test_what_a_browser_sends_is_ignored() -> None:
    socket = await opened("/ws/events/", await sync_to_async(UserFactory)())
    await joined(socket)

    await socket.send_input({"type": "websocket.receive", "text": json.dumps(EVENT)})

    assert await socket.receive_nothing()
    await close(socket)
