"""CONNECT: bytes in both directions until one side has had enough."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable

from agents.gateway.egress.wire import CHUNK_BYTES, touch

# Nothing in either direction for so long: it is over, whoever forgot to say so.
IDLE_S = 300.0

Count = Callable[[int], None]
Streams = tuple[StreamReader, StreamWriter]


async def join(client: Streams, upstream: Streams, *, first: bytes, count_up: Count, count_down: Count) -> None:
    """Copy between the two until both have closed, beginning with the bytes that came behind the request.

    Never holds more than some chunks: who does not read makes the other side wait. Each count is told before its bytes
    are passed on; what it raises ends both directions. Raises TimeoutError when nothing moves, OSError when one breaks.
    """
    async with asyncio.timeout(IDLE_S) as idle:

        async def copy(source: StreamReader, target: StreamWriter, data: bytes, count: Count) -> None:
            while data or (data := await source.read(CHUNK_BYTES)):
                count(len(data))
                touch(idle, IDLE_S)
                target.write(data)
                await target.drain()
                data = b""
            target.write_eof()

        up = asyncio.create_task(copy(client[0], upstream[1], first, count_up))
        down = asyncio.create_task(copy(upstream[0], client[1], b"", count_down))
        try:
            await asyncio.gather(up, down)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
