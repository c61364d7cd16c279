"""Requests as h11 reads them, within limits, and the proxy's own answers."""

import asyncio
import base64
import binascii
import socket
import struct
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import dataclass

import h11

from agents.gateway.egress.policy import Reason, Refused

# Real heads have 1 or 2 KB. The whole of it has to arrive within the time, however slowly each byte comes.
MOST_HEAD_BYTES = 16 * 1024
HEAD_S = 10.0
CHUNK_BYTES = 64 * 1024
_LINGER_S = 2.0
_LINGER_BYTES = 256 * 1024

Headers = list[tuple[bytes, bytes]]
BROKEN = (OSError, TimeoutError)


async def read_request(reader: StreamReader, connection: h11.Connection) -> h11.Request:
    """Return the head of a request. Raises Refused, and ConnectionError when who asks went away."""
    try:
        async with asyncio.timeout(HEAD_S):
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await reader.read(MOST_HEAD_BYTES))
    except TimeoutError:
        raise Refused(408, Reason.BAD_REQUEST, f"The head did not arrive within {HEAD_S:.0f} seconds.") from None
    except h11.RemoteProtocolError as error:
        sentence = f"A request's head has at most {MOST_HEAD_BYTES} bytes and keeps to RFC 9112."
        raise Refused(error.error_status_hint, Reason.BAD_REQUEST, sentence) from None
    if not isinstance(event, h11.Request):
        raise ConnectionResetError("nothing was asked")
    _check_framing(event)
    return event


def _check_framing(request: h11.Request) -> None:
    """Raise Refused for a body whose end two programs could see in two places."""
    if request.http_version not in {b"1.0", b"1.1"}:
        raise Refused(505, Reason.BAD_REQUEST, "Speak HTTP/1.1.")
    names = [name for name, _ in request.headers]
    has_length, is_chunked = b"content-length" in names, b"transfer-encoding" in names
    if has_length and is_chunked:
        raise Refused(400, Reason.BAD_REQUEST, "Content-Length and Transfer-Encoding contradict each other.")
    if request.method == b"CONNECT" and (has_length or is_chunked):
        raise Refused(400, Reason.BAD_REQUEST, "CONNECT has no body.")


def token_of(request: h11.Request) -> str:
    """Return the token of Proxy-Authorization, Basic (the password) or Bearer. Raises Refused."""
    shown = [value for name, value in request.headers if name == b"proxy-authorization"]
    if len(shown) == 1:
        scheme, _, credentials = shown[0].decode("latin-1").partition(" ")
        if scheme.lower() == "bearer" and credentials.strip():
            return credentials.strip()
        if scheme.lower() == "basic" and (password := _password(credentials.strip())):
            return password
    raise Refused(
        407, Reason.NO_TOKEN, "Show the run's token: Proxy-Authorization, Basic run:<token> or Bearer <token>."
    )


def _password(credentials: str) -> str:
    with suppress(binascii.Error, UnicodeDecodeError):
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    return ""


def touch(idle: asyncio.Timeout, seconds: float) -> None:
    """Begin the wait anew, unless it is over already."""
    if not idle.expired():
        with suppress(RuntimeError):  # it is running out in this very moment
            idle.reschedule(asyncio.get_running_loop().time() + seconds)


def hang_up(writer: StreamWriter, *, is_clean: bool) -> None:
    """Close a connection: after what was written, if that ends soon; at once when it broke off."""
    if not is_clean:
        # A reset: an orderly end would make what came of an answer without a length look like the whole.
        with suppress(OSError):  # it is closed already
            if connection := writer.get_extra_info("socket"):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    writer.close()
    asyncio.get_running_loop().call_later(_LINGER_S, writer.transport.abort)


@dataclass(frozen=True)
class Client:
    """Who asks: its connection with its parser, and the address that it comes from."""

    reader: StreamReader
    writer: StreamWriter
    parser: h11.Connection
    peer: str

    async def say(self, status: int, text: str, reason: str = "") -> None:
        """Answer with a sentence, unless an answer has begun. Raises BROKEN."""
        if self.parser.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            raise ConnectionAbortedError(text)
        body = f"{text}\n".encode()
        length = str(len(body))
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", length), ("Connection", "close")]
        if reason:
            headers.append(("X-Egress-Refused", reason))
        if status == 407:
            headers.append(("Proxy-Authenticate", 'Basic realm="eklavya egress"'))
        response = h11.Response(status_code=status, headers=headers, reason=text.encode("ascii", "ignore")[:80])
        async with asyncio.timeout(_LINGER_S):
            for event in (response, h11.Data(body), h11.EndOfMessage()):
                self.writer.write(self.parser.send(event) or b"")
            await self.writer.drain()
            self.writer.write_eof()
            await self._drop_rest()

    async def _drop_rest(self) -> None:
        """Read what is still being sent: closing with unread data would reset the connection, and lose the answer."""
        left = _LINGER_BYTES
        while left > 0 and (data := await self.reader.read(CHUNK_BYTES)):
            left -= len(data)

    def switch(self) -> bytes:
        """Accept a CONNECT, and return what came behind its head. From here on the parser is out of use."""
        self.parser.next_event()  # the request's end
        accepted = h11.Response(status_code=200, headers=[], reason=b"Connected")
        self.writer.write(self.parser.send(accepted) or b"")
        return self.parser.trailing_data[0]
