"""Plain HTTP: one request passed on and its answer passed back, both taken apart and put together anew.

What goes upstream is written by h11 from what h11 understood, so that no two programs can see different requests in it.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable

import h11

from agents.gateway.egress.policy import Reason, Refused
from agents.gateway.egress.wire import CHUNK_BYTES, Headers, touch
from projects.addresses import Target

IDLE_S = 120.0
_MOST_ANSWER_HEAD_BYTES = 64 * 1024
# Of this connection, not of the request (RFC 9110, 7.6.1); what names further ones is removed with them.
_OF_THE_CONNECTION = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Answered by the proxy itself, or replaced by it.
_OURS = frozenset({b"expect", b"host"})

Count = Callable[[int], None]


class Side:
    """One connection with its parser. `count` is told the bytes that were received from it."""

    def __init__(self, parser: h11.Connection, reader: StreamReader, writer: StreamWriter, count: Count) -> None:
        self.parser = parser
        self._reader = reader
        self._writer = writer
        self._count = count

    async def receive(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what comes next. Raises h11.RemoteProtocolError, OSError."""
        while True:
            event = self.parser.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self.parser.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            data = await self._reader.read(CHUNK_BYTES)
            self._count(len(data))
            self.parser.receive_data(data)

    async def send(self, event: h11.Event) -> None:
        """Write it, and wait while the other side does not read."""
        self._writer.write(self.parser.send(event) or b"")
        await self._writer.drain()


async def forward(request: h11.Request, target: Target, path: str, *, client: Side, upstream: Side) -> None:
    """Pass a request on whose head was read from the client, and the answer back.

    Raises Refused when nothing was answered yet; TimeoutError, OSError and h11.ProtocolError where it breaks off.
    """
    async with asyncio.timeout(IDLE_S) as idle:
        await upstream.send(_head(request, target, path))
        # The answer may come before the whole request has gone: both at once, and the answer's end is the end.
        sending = asyncio.create_task(_pass_body(client, upstream, idle))
        answering = asyncio.create_task(_pass_answer(upstream, client, idle))
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            # A host that hangs up on the rest of a request may have answered it all the same.
            if sending.done() and not isinstance(sending.exception(), OSError):
                sending.result()
            await answering
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)


def _head(request: h11.Request, target: Target, path: str) -> h11.Request:
    headers = [(b"Host", target.authority.encode()), *_passed_on(request.headers)]
    if any(name == b"transfer-encoding" for name, _ in request.headers):
        headers.append((b"Transfer-Encoding", b"chunked"))
    return h11.Request(method=request.method, target=path, headers=[*headers, (b"Connection", b"close")])


def _passed_on(headers: h11._headers.Headers) -> Headers:
    """Return what is the request's or the answer's own, with names in the case that they came in."""
    values = [value for name, value in headers if name == b"connection"]
    named = {part.strip().lower() for value in values for part in value.split(b",")} - {b"content-length"}
    dropped = _OF_THE_CONNECTION | _OURS | named
    return [(name, value) for name, value in headers.raw_items() if name.lower() not in dropped]


async def _pass_body(source: Side, target: Side, idle: asyncio.Timeout) -> None:
    while isinstance(event := await source.receive(), h11.Data):
        touch(idle, IDLE_S)
        await target.send(h11.Data(event.data))
    if isinstance(event, h11.EndOfMessage):
        await target.send(h11.EndOfMessage())


async def _pass_answer(source: Side, target: Side, idle: asyncio.Timeout) -> None:
    try:
        event = await source.receive()
        while isinstance(event, h11.InformationalResponse):
            event = await source.receive()
    except (h11.RemoteProtocolError, OSError):
        event = None
    if not isinstance(event, h11.Response):
        raise Refused(502, Reason.UNREACHABLE, "The host did not answer in HTTP.")
    touch(idle, IDLE_S)
    headers = [*_passed_on(event.headers), (b"Connection", b"close")]
    await target.send(h11.Response(status_code=event.status_code, headers=headers, reason=event.reason))
    await _pass_body(source, target, idle)


def upstream_parser() -> h11.Connection:
    """Return a parser of what a host answers."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_ANSWER_HEAD_BYTES)
