"""What the supervisor's SDK starts in place of the CLI: it passes standard streams on to a remote worker, and back.

    python -P -m agents.remote.relay SETTINGS [ARGUMENT...]      SETTINGS is a JSON file of RemoteRuntime.launcher

Exit code and last words are the CLI's; 125 when the worker does not take the run. No Django: it starts in a moment.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer

from agents.remote.names import PREFIX, TO_WORKER, run_group, worker_group
from agents.runtimes.environment import SDK_VARIABLES
from agents.worker.streams import Frame, Receiver, Sender

CANNOT_START = 125
AGAIN_S = 1.0
READ_BYTES = 64 * 1024
CARRIER_S = 5.0
LEFT_ALONE_S = 30.0


class Relay:
    """One run's streams."""

    def __init__(self, settings: dict[str, Any], arguments: list[str]) -> None:
        self._run_id, self._worker_id = settings["run_id"], settings["worker_id"]
        environment = {name: os.environ[name] for name in SDK_VARIABLES if name in os.environ}
        context = {**settings["assignment"]["context"], "arguments": arguments, "environment": environment}
        self._assignment = {**settings["assignment"], "context": context}
        self._layer = RedisPubSubChannelLayer(hosts=[settings["redis_url"]], prefix=PREFIX)
        self._input = Sender("input", self._send)
        self._output = Receiver()
        self._heard = asyncio.Event()
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """Pass on until the process on the worker has ended; return its exit code."""
        channel = await self._layer.new_channel()
        await self._layer.group_add(run_group(self._run_id), channel)
        tasks = [
            asyncio.create_task(work)
            for work in (self._listen(channel), self._assign(), self._read(), self._input.pump())
        ]
        try:
            return await self._over
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, kind: str, data: Frame) -> None:
        frame = {"type": kind, "data": {"subtask_id": self._run_id, **data}}
        try:
            async with asyncio.timeout(CARRIER_S):
                await self._layer.group_send(worker_group(self._worker_id), {"type": TO_WORKER, "frame": frame})
        except Exception as error:  # Redis is away: it is sent again until it is acknowledged
            os.write(2, f"relay: {error!r}\n".encode())

    async def _assign(self) -> None:
        while not self._heard.is_set():
            await self._send("task_assignment", self._assignment)
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._heard.wait()

    async def _read(self) -> None:
        """Read what the SDK says to the CLI, once somebody listens."""
        await self._heard.wait()
        while data := await asyncio.to_thread(os.read, 0, READ_BYTES):
            await self._input.write(data)
        self._input.finish({})
        # Whoever started this is done with it, or died: the CLI ends now, and so does this, whatever is heard of that.
        await asyncio.sleep(LEFT_ALONE_S)
        self._end(1)

    async def _listen(self, channel: str) -> None:
        while True:
            message = await self._layer.receive(channel)
            frame = message["frame"]
            await self._take(frame["type"], frame["data"])

    async def _take(self, kind: str, data: Frame) -> None:
        if kind == "task_rejected":
            os.write(2, f"The worker does not take the run: {str(data.get('reason'))[:500]}\n".encode())
            self._end(CANNOT_START)
            return
        self._heard.set()
        match kind:
            case "ack":
                self._input.acknowledged(data.get("offset"), is_end=data.get("end") is True)
            case "output":
                if new := self._output.take(data):
                    await asyncio.to_thread(_write_all, 1, new)
                await self._send("ack", self._output.acknowledgement())
                if self._output.end is not None:
                    os.write(2, str(self._output.end.get("stderr", ""))[-4_000:].encode())
                    code = self._output.end.get("code")
                    self._end(code if isinstance(code, int) and 0 <= code <= 255 else 1)

    def _end(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


async def _main(path: str, arguments: list[str]) -> None:
    code = await Relay(json.loads(Path(path).read_bytes()), arguments).run()
    os._exit(code)  # not by return: a thread may still wait for what the SDK never says


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2:]))
