"""Telling browsers: one background event loop per process that sends to the channel layer.

Fire and forget. Whoever calls never waits for Redis and never fails because of it: pages read the database anew when
their connection comes back.
"""

import asyncio
import logging
import threading
from functools import cache
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

ALL_GROUP = "events"
SEND_TIMEOUT_S = 5


def project_group(project_id: UUID | str) -> str:
    """Return the channel group of one project's pages."""
    return f"project.{project_id}"


def broadcast(message: dict[str, Any], *, project_id: UUID | str | None) -> None:
    """Send a live event to everybody who watches all projects, or this one. Returns at once."""
    groups = [ALL_GROUP, *([project_group(project_id)] if project_id else [])]
    send(groups, {"type": "live.event", "event": message})


def send(groups: list[str], message: dict[str, Any]) -> None:
    """Send a message to groups of the channel layer, perhaps. Returns at once."""
    asyncio.run_coroutine_threadsafe(_send(groups, message), _loop())


async def _send(groups: list[str], message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            for group in groups:
                await layer.group_send(group, message)
    except Exception as error:  # Redis is down or slow: the event is only a hint
        logger.warning("live event not sent: %s", error)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="live-events", daemon=True).start()
    return loop
