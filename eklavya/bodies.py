"""A limit to what anybody may send, before Django keeps it on disk: it stores a whole body before a view is asked."""

from typing import Any

MAX_BODY_BYTES = 12_000_000
"""More than any form, and than Git's largest request; settings limit forms and JSON far below."""
_TOO_LARGE = f"A request has at most {MAX_BODY_BYTES:,} bytes.\n".encode()


class _TooLarge(Exception):
    """The body went on after its limit."""


class LimitedBodies:
    """An ASGI application that answers 413 instead of passing on a body that is too large, declared or not."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            await _refuse(send)
            return
        await self._counted(scope, receive, send)

    async def _counted(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        taken, answered = 0, False

        async def counted() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise _TooLarge
            return message

        async def noted(message: Any) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except _TooLarge:
            if not answered:
                await _refuse(send)


async def _refuse(send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_TOO_LARGE)).encode())]
    # Closed: what is still on its way is not read as the next request.
    await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": _TOO_LARGE})
