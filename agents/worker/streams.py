"""Bytes from one end to the other over connections that break and carriers that lose, double and mix up.

Each piece has its offset. The receiver takes what follows on what it has, and says how far it is; the sender sends
again what is not acknowledged for a while. Both ends of a remote run use this: the relay on the server, and the worker.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

Frame = dict[str, Any]
Send = Callable[[str, Frame], Awaitable[None]]
"""Sends a frame of a type with its data. May lose it."""

PIECE_BYTES = 48 * 1024
WINDOW_BYTES = 512 * 1024
"""So much is on its way at most; who has more to say waits."""
AGAIN_S = 1.0
"""After so long without an acknowledgement everything since the last one is sent again."""


class Sender:
    """The sending end of one stream. `pump` runs until all is acknowledged, the end included."""

    def __init__(self, kind: str, send: Send) -> None:
        self._kind = kind
        self._send = send
        self._bytes = bytearray()
        self._acked = self._sent = 0  # offsets in the whole stream; `_bytes` begins at `_acked`
        self._end: Frame | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self.is_done = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while too many are on their way."""
        while len(self._bytes) >= WINDOW_BYTES:
            self._room.clear()
            await self._room.wait()
        self._bytes += data
        self._changed.set()

    def finish(self, end: Frame) -> None:
        """Nothing follows but `end`, which is told with the last byte."""
        self._end = end
        self._changed.set()

    def acknowledged(self, offset: object, *, is_end: bool) -> None:
        """The other end has everything up to here."""
        if not isinstance(offset, int) or not self._acked <= offset <= self._acked + len(self._bytes):
            return
        del self._bytes[: offset - self._acked]
        self._acked = offset
        self._sent = max(self._sent, offset)
        self._room.set()
        if is_end and self._end is not None and not self._bytes:
            self.is_done.set()
            self._changed.set()

    def rewind(self) -> None:
        """Send everything again that is not acknowledged: the connection is a new one."""
        self._sent = self._acked
        self._changed.set()

    async def pump(self) -> None:
        """Send what there is, again and again, until all is acknowledged."""
        while not self.is_done.is_set():
            self._changed.clear()
            before = self._acked
            await self._send_rest()
            # Not wait_for, which loses that it was cancelled when the event comes in the same moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._changed.wait()
                continue
            if self._acked == before:
                self._sent = self._acked

    async def _send_rest(self) -> None:
        total = self._acked + len(self._bytes)
        while self._sent < total:
            first = self._sent
            piece = bytes(self._bytes[first - self._acked : first - self._acked + PIECE_BYTES])
            self._sent = first + len(piece)
            await self._send(self._kind, {"offset": first, "data": base64.b64encode(piece).decode("ascii")})
            total = self._acked + len(self._bytes)
        if self._end is not None and not self.is_done.is_set():
            await self._send(self._kind, {"offset": total, "data": "", "end": self._end})


class Receiver:
    """The receiving end of one stream."""

    def __init__(self) -> None:
        self.offset = 0
        self.end: Frame | None = None

    def take(self, data: Frame) -> bytes:
        """Return what is new in a piece; empty for one that came before, or too early."""
        offset, text, end = data.get("offset"), data.get("data"), data.get("end")
        if self.end is not None or not isinstance(offset, int) or not isinstance(text, str) or offset > self.offset:
            return b""
        try:
            new = base64.b64decode(text, validate=True)[self.offset - offset :]
        except (ValueError, binascii.Error):
            return b""
        self.offset += len(new)
        if isinstance(end, dict) and not text and offset == self.offset:
            self.end = end
        return new

    def acknowledgement(self) -> Frame:
        """Return how far it is."""
        return {"offset": self.offset, "end": self.end is not None}
