"""The agents' doors on this machine: each connection to one is led to the server's gateway or egress proxy, by TLS
where the server is asked by TLS. What agents show there is their run's token, which opens nothing else."""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field

PIECE_BYTES = 64 * 1024


@dataclass
class Door:
    """One port of this machine that leads to one of the server's. `open` makes it, `close` ends its connections."""

    host: str
    port: int
    is_encrypted: bool
    listening: asyncio.Server | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, address: str) -> int:
        """Listen at a free port of an address of this machine; return the port."""
        self.listening = await asyncio.start_server(self._serve, address, 0)
        number: int = self.listening.sockets[0].getsockname()[1]
        return number

    async def close(self) -> None:
        """Stop listening."""
        if self.listening is not None:
            self.listening.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            context = ssl.create_default_context() if self.is_encrypted else None
            there_reader, there_writer = await asyncio.open_connection(self.host, self.port, ssl=context)
            try:
                await asyncio.gather(_carry(reader, there_writer), _carry(there_reader, writer))
            finally:
                there_writer.close()
        except (
            OSError,
            asyncio.CancelledError,
        ):  # the server is away, or this program ends
            pass
        finally:
            writer.close()
            self._open.discard(task)


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(PIECE_BYTES):
            target.write(data)
            await target.drain()
    with suppress(OSError, RuntimeError):
        if target.can_write_eof():
            target.write_eof()
        else:
            target.close()
