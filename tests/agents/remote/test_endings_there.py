"""How a run ends on its remote worker: what it says and keeps after that. The server and the runtime are played."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.worker import streams
from agents.worker.execution import Execution, Host

RUN, REQUEST = "00000000-0000-0000-0000-000000000001", "0" * 32


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
        self.host = Host(var, runtime, played, lambda project: {}, self._send)
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
