"""A limit to what anybody may send, before Django keeps it on disk: it stores a whole body before a view is asked."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 12_000_000
"""More than any form, and than Git's largest request; settings limit forms and JSON far below."""
_TOO_LARGE = f"A request has at most {MAX_BODY_BYTES:,} bytes.\n".encode()


async def forget(scope: dict[str, Any]) -> None:
    """Record nothing."""


class _TooLarge(Exception):
    """The body went on after its limit."""


class LimitedBodies:
    """An ASGI application that answers 413 instead of passing on a body that is too large, declared or not.

    `note` records whose it was. The answer does not wait for it, and must not fail for it.
    """

    def __init__(self, app: Any, note: Callable[[dict[str, Any]], Awaitable[None]] = forget) -> None:
        self.app = app
        self.note = note

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            await _refuse(send)
            await self._note(scope)
            return
        await self._counted(scope, receive, send)

    async def _note(self, scope: dict[str, Any]) -> None:
        try:
            await self.note(scope)
        except Exception:
            logger.warning("a body that was refused could not be recorded", exc_info=True)

    async def _counted(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        taken, answered, is_cut = 0, False, False

        async def counted() -> Any:
            nonlocal taken, is_cut
            if is_cut:
                raise _TooLarge
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                is_cut = True
                return {"type": "http.disconnect"}  # as if it had broken off: Django removes what it kept
            return message

        async def noted(message: Any) -> None:
            nonlocal answered
            answered = True
            await send(message)

        with suppress(_TooLarge):
            await self.app(scope, counted, noted)
        if is_cut:
            if not answered:
                await _refuse(send)
            await self._note(scope)


async def _refuse(send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_TOO_LARGE)).encode())]
    # Closed: what is still on its way is not read as the next request.
    await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": _TOO_LARGE})
