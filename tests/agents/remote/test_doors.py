"""Where a remote worker listens for its agents: at the addresses that they need, and nowhere else."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.runtimes.errors import RuntimeProblem
from agents.worker.forwarding import Door, Doors
from agents.worker.places import DOORS

OURS, ANOTHERS, LOOPBACK = "127.0.0.2", "127.0.0.3", "127.0.0.1"
ALL = (OURS, ANOTHERS, LOOPBACK)


def runtime_at(address: str) -> Any:
    return SimpleNamespace(host_address=lambda project: address)


async def answers(address: str, number: int) -> bool:
    """Whether what is asked at an address comes back."""
    try:
        reader, writer = await asyncio.open_connection(address, number)
    except OSError:
        return False
    writer.write(b"ping")
    said = await reader.readexactly(4)
    writer.close()
    return said == b"ping"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(4))
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("listen", ["", "0.0.0.0"])
def test_doors_are_open_where_agents_need_them(listen: str) -> None:
    async def play() -> None:
        async with await asyncio.start_server(echo, LOOPBACK, 0) as server:
            theirs = server.sockets[0].getsockname()[1]
            doors = Doors({1: Door(LOOPBACK, theirs, False), 2: Door(LOOPBACK, theirs, False)}, listen=listen)
            numbers = await doors.reserve()
            told = await doors.open_for("one", runtime_at(OURS))
            assert told == {DOORS: OURS, f"{DOORS}:1": f"{OURS}:{numbers[0]}", f"{DOORS}:2": f"{OURS}:{numbers[1]}"}
            assert await doors.open_for("one", runtime_at(OURS)) == told
            for number in numbers:
                assert [await answers(one, number) for one in ALL] == ([True] * 3 if listen else [True, False, False])

            await doors.open_for("another", runtime_at(ANOTHERS))
            idle: Any = SimpleNamespace(remove_idle_networks=lambda idle_s: ("one", "unknown"))
            await doors.shut_idle(idle, idle_s=1)
            assert [await answers(one, numbers[0]) for one in ALL] == ([True] * 3 if listen else [False, True, False])
            await doors.close()
            assert not any([await answers(one, number) for one in ALL for number in numbers])

    asyncio.run(asyncio.wait_for(play(), 30))


def test_where_agents_are_processes_it_is_the_loopback() -> None:
    async def play() -> None:
        async with await asyncio.start_server(echo, LOOPBACK, 0) as server:
            doors = Doors({1: Door(LOOPBACK, server.sockets[0].getsockname()[1], False)})
            (number,) = await doors.reserve()
            await doors.open_for("one", runtime_at(LOOPBACK))
            assert [await answers(one, number) for one in ALL] == [False, False, True]
            await doors.close()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_who_has_not_the_address_is_told_what_to_do() -> None:
    async def play() -> None:
        doors = Doors({1: Door(LOOPBACK, 1, False)})
        await doors.reserve()
        try:
            with pytest.raises(RuntimeProblem, match="--listen"):
                await doors.open_for("one", runtime_at("192.0.2.1"))
        finally:
            await doors.close()

    asyncio.run(play())
