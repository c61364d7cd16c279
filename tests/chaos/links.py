"""The network between a machine and the servers: sockets that pass bytes on, until somebody cuts them."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 65_536
_START_S = 10


class Links:
    """All links of a run, in one thread with an event loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def add(self, listen: Path, target: Path) -> "Link":
        """Listen at one Unix socket and pass everything on to another."""

        async def begin() -> Link:
            link = Link(target, self._loop)
            await asyncio.start_unix_server(link.serve, listen)
            return link

        return asyncio.run_coroutine_threadsafe(begin(), self._loop).result(_START_S)

    def close(self) -> None:
        """Stop; what is open is cut off."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)


class Link:
    """One way to a server. While it is cut no byte passes, and nobody is told: connections just fall silent."""

    def __init__(self, target: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Let nothing pass, either way."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def heal(self, *, reset: bool) -> None:
        """Let all pass again: what waited arrives now, unless the old connections are `reset`."""
        if reset:
            self._loop.call_soon_threadsafe(self._reset)
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection."""
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            there, back = await asyncio.open_unix_connection(self._target)
        except OSError:  # the server is down
            self._writers.discard(writer)
            writer.close()
            return
        self._writers.add(back)
        try:
            await asyncio.wait(
                {asyncio.ensure_future(self._pass(reader, back)), asyncio.ensure_future(self._pass(there, writer))}
            )
        finally:
            for one in (writer, back):
                self._writers.discard(one)
                one.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                writer.write(chunk)
                await writer.drain()
        await self._flowing.wait()
        writer.close()
