"""Telling browsers: one background event loop per process that sends to the channel layer.

Fire and forget. Whoever calls never waits for Redis and never fails because of it: pages read the database anew when
their connection comes back.
"""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

ALL_GROUP = "events"
SEND_TIMEOUT_S = 5


class News(NamedTuple):
    """A live event, and whose: of a project, or of none."""

    event: dict[str, Any]
    project_id: UUID | str | None


def project_group(project_id: UUID | str) -> str:
    """Return the channel group of one project's pages."""
    return f"project.{project_id}"


def broadcast(event: dict[str, Any], *, project_id: UUID | str | None) -> None:
    """Send a live event to everybody who watches all projects, or this one. Returns at once."""
    broadcast_many([News(event, project_id)])


def broadcast_many(news: Iterable[News]) -> None:
    """As `broadcast`, of many events in their order: each group gets all of its own in one message of the layer."""
    of_group: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event, project_id in news:
        of_group[ALL_GROUP].append(event)
        if project_id:
            of_group[project_group(project_id)].append(event)
    if of_group:
        _begin({group: {"type": "live.events", "events": events} for group, events in of_group.items()})


def send(groups: list[str], message: dict[str, Any]) -> None:
    """Send a message to groups of the channel layer, perhaps. Returns at once."""
    _begin(dict.fromkeys(groups, message))


def _begin(messages: Mapping[str, dict[str, Any]]) -> None:
    asyncio.run_coroutine_threadsafe(_send(messages), _loop())


async def _send(messages: Mapping[str, dict[str, Any]]) -> None:
    layer = get_channel_layer()
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            for group, message in messages.items():
                await layer.group_send(group, message)
    except Exception as error:  # Redis is down or slow: the event is only a hint
        logger.warning("live event not sent: %s", error)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="live-events", daemon=True).start()
    return loop
