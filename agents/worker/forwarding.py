"""The agents' doors on this machine: each connection to one is led to the server's gateway or egress proxy, by TLS
where the server is asked by TLS. What agents show there is their run's token, which opens nothing else."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from agents.runtimes.contract import Networked, Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.worker.places import DOORS

PIECE_BYTES = 64 * 1024
LOOPBACK = "127.0.0.1"


@dataclass
class Door:
    """One port of this machine that leads to one of the server's: the same number at each address that it is opened at.

    `close` ends its connections.
    """

    host: str
    port: int
    is_encrypted: bool
    here: int = 0
    """Its number on this machine; 0 before it is reserved or opened."""
    _held: socket.socket | None = None
    _listening: dict[str, asyncio.Server] = field(default_factory=dict)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def reserve(self) -> int:
        """Choose the number, and listen nowhere yet."""
        # Bound and never listening: nobody else gets the number, and nobody can connect.
        self._held = socket.socket()
        self._held.bind((LOOPBACK, 0))
        self.here = self._held.getsockname()[1]
        return self.here

    async def open(self, address: str) -> int:
        """Listen at an address of this machine, if it does not yet; return the number. Raises OSError."""
        if address not in self._listening:
            if address == LOOPBACK and self._held is not None:
                self._held.close()
            made = await asyncio.start_server(self._serve, address, self.here)
            self._listening[address] = made
            self.here = made.sockets[0].getsockname()[1]
        return self.here

    def shut(self, address: str) -> None:
        """Listen at an address no more. Connections stay."""
        if made := self._listening.pop(address, None):
            made.close()

    async def close(self) -> None:
        """Stop listening."""
        for made in self._listening.values():
            made.close()
        self._listening.clear()
        if self._held is not None:
            self._held.close()
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


class Doors:
    """The doors to the gateway and to the egress proxy, each under the number that the server has for it.

    They are open where the agents of a project look for them, and nowhere else: at the address that this machine has in
    the project's network, or at the loopback where agents are processes of this machine. With `listen`, at that address
    for all: where the networks' addresses are not this program's to listen at, as in a container of its own.
    """

    def __init__(self, doors: Mapping[int, Door], *, listen: str = "") -> None:
        self._doors = doors
        self._listen = listen
        self._opened: dict[str, str] = {}
        # A network that is removed and the same one made anew do not come to the same door at once.
        self._turn = asyncio.Lock()

    async def reserve(self) -> tuple[int, ...]:
        """Return the numbers that they have on this machine. Raises OSError where `listen` is none of its addresses."""
        if self._listen:
            return tuple([await door.open(self._listen) for door in self._doors.values()])
        return tuple(door.reserve() for door in self._doors.values())

    async def open_for(self, project: str, runtime: Runtime) -> dict[str, str]:
        """Have them open for a project's sandboxes; return the words for them with what they are there.

        Raises RuntimeProblem.
        """
        async with self._turn:
            at = await asyncio.to_thread(runtime.host_address, project)
            if not self._listen:
                self._opened[project] = at
                await self._open_at(at)
        return {f"{DOORS}:{theirs}": f"{at}:{door.here}" for theirs, door in self._doors.items()} | {DOORS: at}

    async def _open_at(self, address: str) -> None:
        try:
            for door in self._doors.values():
                await door.open(address)
        except OSError as error:
            raise RuntimeProblem(
                f"Nothing can listen at {address}, where sandboxes of the project find the server ({error}). Where it "
                "is another machine's, as for a worker in a container, start the worker with --listen 0.0.0.0."
            ) from error

    async def shut_idle(self, runtime: Networked, *, idle_s: float) -> None:
        """Remove the networks of projects that were not worked on for so long, and shut the doors at their addresses.

        Raises RuntimeProblem.
        """
        async with self._turn:
            for project in await asyncio.to_thread(runtime.remove_idle_networks, idle_s=idle_s):
                at = self._opened.pop(project, "")
                for door in self._doors.values():
                    door.shut(at)

    async def close(self) -> None:
        """End all connections."""
        for door in self._doors.values():
            await door.close()
