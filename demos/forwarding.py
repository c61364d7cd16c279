"""HTTP between a visitor and a preview's application: streamed both ways, bounded, and over when either leaves."""

import asyncio
import logging
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

import httpx

from demos import doors, pages
from demos.doors import DoorClosed
from demos.headers import to_visitor
from demos.pages import Page
from demos.visits import Receive, Visit, first_of

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 20_000_000
"""Of a request. Answers may be longer: they cost the platform no memory."""
TOTAL_S = 900.0
"""A whole exchange, however slowly it trickles."""
_TIMEOUTS = {"connect": 5.0, "read": 60.0, "write": 60.0, "pool": 5.0}
_LIMITS = httpx.Limits(max_connections=1_000, max_keepalive_connections=100, keepalive_expiry=5.0)


class _BodyTooLarge(Exception):
    """The visitor sends more than MAX_BODY_BYTES."""


class _VisitorLeft(Exception):
    """The visitor's connection ended."""


# One per event loop, because connections belong to the loop they were opened in. The transport, not httpx.AsyncClient:
# that keeps cookies, and one visitor's must not meet another's.
_transports: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncHTTPTransport] = WeakKeyDictionary()


def _transport() -> httpx.AsyncHTTPTransport:
    loop = asyncio.get_running_loop()
    if loop not in _transports:
        # trust_env: the machine's proxy settings must not see previews.
        _transports[loop] = httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)
    return _transports[loop]


async def close_connections() -> None:
    """Close what this event loop keeps open to previews. For the server's shutdown."""
    if transport := _transports.pop(asyncio.get_running_loop(), None):
        await transport.aclose()


class _Body:
    """The visitor's request body; afterwards the one who notices that they left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read = asyncio.Event()
        self._size_bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _VisitorLeft
            chunk: bytes = message.get("body", b"")
            self._size_bytes += len(chunk)
            if self._size_bytes > MAX_BODY_BYTES:
                raise _BodyTooLarge
            more = message.get("more_body", False)
            yield chunk
        self._read.set()

    def has_none(self) -> None:
        """Say that nobody will ask for chunks."""
        self._read.set()

    async def until_left(self) -> None:
        """Return when the visitor left. Waits for the body to be read first: there is one queue of messages."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Exchange:
    """One request and its answer."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._body = _Body(visit.receive)
        self.started = False
        """Whether the visitor got the beginning of an answer, so that no page of ours can follow."""

    async def run(self) -> None:
        """Carry it through. Raises what `problem_page` takes."""
        async with asyncio.timeout(TOTAL_S):
            closed = doors.until_closed(self._visit.token)
            await first_of(self._relay(), self._body.until_left(), closed)

    async def _relay(self) -> None:
        response = await _transport().handle_async_request(self._request())
        try:
            await self._answer(response)
        finally:
            await response.aclose()

    def _request(self) -> httpx.Request:
        headers = self._visit.headers()
        length = next((value for name, value in headers if name == b"content-length"), None)
        chunked = any(name == b"transfer-encoding" for name, _ in self._visit.scope["headers"])
        if length is not None and (not length.isdigit() or int(length) > MAX_BODY_BYTES):
            raise _BodyTooLarge
        has_body = chunked or length not in (None, b"0")
        if not has_body:
            self._body.has_none()
        return httpx.Request(
            self._visit.scope["method"],
            f"http://{self._visit.address}/",
            headers=headers,
            content=self._body.chunks() if has_body else None,
            # The target goes out exactly as it came in; httpx would write it anew.
            extensions={"target": self._visit.target, "timeout": _TIMEOUTS},
        )

    async def _answer(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        send = self._visit.send
        headers = to_visitor(response.headers.raw)
        self.started = True
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        # As it comes, compressed or not: nothing here needs to read it.
        async for chunk in response.stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def forward_http(visit: Visit) -> Page | None:
    """Have the application answer; return the page to show when it could not, if one can still be shown."""
    exchange = Exchange(visit)
    try:
        await exchange.run()
    except _VisitorLeft:
        return None
    except (httpx.HTTPError, TimeoutError, DoorClosed, _BodyTooLarge) as problem:
        # Sent halfway, it stays halfway: returning makes the server cut the connection, which the visitor notices.
        logger.info("a preview at %s did not answer: %r", visit.address, problem)
        return None if exchange.started else problem_page(problem)
    return None


def problem_page(problem: Exception) -> Page:
    """Return the page for what went wrong between us and the application."""
    match problem:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return pages.STARTING
        case httpx.PoolTimeout():
            return pages.BUSY
        case httpx.TimeoutException() | TimeoutError():
            return pages.SILENT
        case _BodyTooLarge():
            return pages.TOO_LARGE
        case _:
            return pages.BROKEN
