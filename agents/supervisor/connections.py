"""The database as a supervisor sees it: others need its connection while it waits, and the server may go away."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, close_old_connections, connection

logger = logging.getLogger(__name__)
R = TypeVar("R")

AWAY = (OperationalError, InterfaceError)
"""What a statement raises when the server does not answer, or has dropped the connection."""
PATIENCE_S = 30.0
"""For so long a server that restarts is waited for."""
LOOK_AGAIN_S = 0.5


def give_back() -> None:
    """Let go of this thread's connection before a wait of minutes. The next statement gets another one."""
    if not connection.in_atomic_block:
        close_old_connections()


def patiently(step: Callable[[], R], *, is_futile: Callable[[], bool]) -> R:
    """Take a step that may be taken again, until the database has answered, or was away for too long.

    Then, or when it has become futile, raises what the step raised.
    """
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return step()
        except AWAY as error:
            if time.monotonic() > give_up or is_futile():
                raise
            logger.warning("the database does not answer: %s", error)
            give_back()
            time.sleep(LOOK_AGAIN_S)


async def in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run blocking database work in a thread and give its connection back to the pool.

    Tried again while the database does not answer: only for what may be done twice.
    """

    def work() -> Any:
        try:
            return call(*args, **kwargs)
        finally:
            close_old_connections()

    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await sync_to_async(work, thread_sensitive=False)()
        except AWAY as error:
            if time.monotonic() > give_up:
                raise
            logger.warning("the database does not answer: %s", error)
            await asyncio.sleep(LOOK_AGAIN_S)
