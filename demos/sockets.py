"""WebSockets between a visitor and a preview's application."""

import asyncio
import logging

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from demos import doors, pages
from demos.doors import DoorClosed
from demos.headers import to_visitor
from demos.pages import Page
from demos.visits import Visit, first_of

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 4_194_304
"""Of the application; the web server limits the visitor's."""
TOTAL_S = 3_600.0
_OPEN_S = 10.0
_ABNORMAL = 1011
_GOING_AWAY = 1001
_OWN_HEADERS = b"sec-websocket-"
"""Each side's handshake is its own."""
# Codes that say how a connection ended, but may not be sent (RFC 6455, 7.4.1).
_UNSENDABLE = {1005: 1000, 1006: _ABNORMAL, 1015: _ABNORMAL}


class _Connect(connect):
    """A connection to the application that leads nowhere else, whatever it answers."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def forward_websocket(visit: Visit) -> Page | None:
    """Join the two ends until one of them closes; return the page to refuse with when the application cannot."""
    await visit.receive()
    try:
        upstream = await _open(visit)
    except (TimeoutError, OSError, InvalidHandshake, InvalidMessage) as problem:
        logger.info("a preview at %s took no WebSocket: %r", visit.address, problem)
        return _problem_page(problem)
    async with upstream:
        await _accept(visit, upstream)
        try:
            await _join(visit, upstream)
        except ConnectionClosed:
            await _close(visit, upstream.close_code or _ABNORMAL, upstream.close_reason or "")
        except (TimeoutError, DoorClosed):
            await _close(visit, _GOING_AWAY, "This preview was closed.")
    return None


async def _accept(visit: Visit, upstream: ClientConnection) -> None:
    said = upstream.response.headers.raw_items() if upstream.response else ()
    headers = to_visitor((name.encode("latin-1"), value.encode("latin-1")) for name, value in said)
    await visit.send(
        {
            "type": "websocket.accept",
            "subprotocol": upstream.subprotocol,
            "headers": [pair for pair in headers if not pair[0].startswith(_OWN_HEADERS)],
        }
    )


async def _join(visit: Visit, upstream: ClientConnection) -> None:
    async with asyncio.timeout(TOTAL_S):
        closed = doors.until_closed(visit.token)
        await first_of(_to_application(visit, upstream), _to_visitor(visit, upstream), closed)


def _open(visit: Visit) -> _Connect:
    host, _, port = visit.address.rpartition(":")
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in visit.headers()
        if not name.startswith(_OWN_HEADERS) and name not in {b"host", b"content-length"}
    ]
    subprotocols = [Subprotocol(name) for name in visit.scope.get("subprotocols", ())]
    return _Connect(
        # Names the preview, as a browser would; the connection goes to the address.
        f"ws://{visit.host}{visit.target.decode('latin-1')}",
        host=host,
        port=int(port),
        additional_headers=headers,
        subprotocols=subprotocols or None,
        user_agent_header=None,
        compression=None,
        proxy=None,
        open_timeout=_OPEN_S,
        max_size=MAX_MESSAGE_BYTES,
    )


async def _to_application(visit: Visit, upstream: ClientConnection) -> None:
    while True:
        message = await visit.receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code") or 1000
            await upstream.close(_UNSENDABLE.get(code, code))
            return
        text = message.get("text")
        await upstream.send(text if text is not None else message["bytes"])


async def _to_visitor(visit: Visit, upstream: ClientConnection) -> None:
    async for message in upstream:
        key = "text" if isinstance(message, str) else "bytes"
        await visit.send({"type": "websocket.send", key: message})
    await _close(visit, upstream.close_code or _ABNORMAL, upstream.close_reason or "")


async def _close(visit: Visit, code: int, reason: str) -> None:
    await visit.send({"type": "websocket.close", "code": _UNSENDABLE.get(code, code), "reason": reason})


def _problem_page(problem: Exception) -> Page:
    match problem:
        case TimeoutError():
            return pages.SILENT
        case OSError():
            return pages.STARTING
        case _:
            return pages.BROKEN
