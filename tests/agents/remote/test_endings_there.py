"""How a run ends on its remote worker: what it says and keeps after that. The server and the runtime are played."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.worker import server as module
from agents.worker import streams
from agents.worker.execution import Execution, Host
from agents.worker.server import Server

RUN, REQUEST = "00000000-0000-0000-0000-000000000001", "0" * 32


async def no_doors(project: str) -> dict[str, str]:
    return {}


class There:
    """A run on a worker: its sandbox, which runs until it is killed, and what was sent of it."""

    def __init__(self, var: Path, monkeypatch: pytest.MonkeyPatch, **server: Any) -> None:
        self.sent: list[Any] = []
        self._killed = asyncio.Event()
        loop = asyncio.get_running_loop()
        runtime: Any = SimpleNamespace(
            kill=lambda name: loop.call_soon_threadsafe(self._killed.set), remove_directory=lambda path: None
        )
        played: Any = SimpleNamespace(has_nothing=self._has_nothing, **server)
        self.host = Host(var, runtime, played, no_doors, self._send)
        self.execution = Execution(RUN, {"context": {"name": "run-x", "project": "p"}}, self.host)
        monkeypatch.setattr(self.execution, "_execute", self._execute)

    async def _has_nothing(self, run_id: str, request: str) -> None:
        return None

    async def _send(self, frame: Any) -> None:
        self.sent.append(frame)

    async def _execute(self) -> tuple[int, str]:
        await self._killed.wait()
        return 137, ""


def test_a_run_that_was_ended_says_nothing_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "AGAIN_S", 0.01)

    async def play() -> None:
        there = There(tmp_path, monkeypatch)
        work = asyncio.create_task(there.execution.work())
        await there.execution.end(REQUEST)  # nobody acknowledges: the server's relay was ended before
        async with asyncio.timeout(10):
            await asyncio.wait({work})
        await asyncio.sleep(0)  # the pump learns that it is cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())


def test_files_are_asked_for_again_when_the_connection_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfi",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfiles",
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    async def play() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        server = Server(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", "key")
        async with listening, asyncio.timeout(20):
            await server.download(RUN, tmp_path / "got")
        await server.close()

    asyncio.run(play())
    assert (tmp_path / "got").read_bytes() == b"files"
