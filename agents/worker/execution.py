"""One run on this machine: its files, its sandbox, its process and the streams of that."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.runtimes.contract import Limits, Mount, Runtime, SandboxSpec
from agents.runtimes.errors import RuntimeProblem
from agents.worker.archives import BadArchive, Most, pack, unpack
from agents.worker.places import HOME, PROGRAM, WORKSPACE, filled_in
from agents.worker.server import AWAY, Refused, Server
from agents.worker.streams import Frame, Receiver, Sender

logger = logging.getLogger(__name__)

BASE_DIR = Path(__file__).resolve().parents[2]
READ_BYTES = 64 * 1024
TAIL_BYTES = 4_000
MORE_S = 120.0
"""The server's supervisor ends a run in time; this machine does so by itself if it did not for so long."""
AGAIN_S = 2.0
CANNOT_START = 125


@dataclass(frozen=True)
class Host:
    """What a run needs of the program. `doors`: opens them for a project's sandboxes, and says what stands for them."""

    var: Path
    runtime: Runtime
    server: Server
    doors: Callable[[str], Awaitable[dict[str, str]]]
    send: Callable[[Frame], Awaitable[None]]

    def directory(self, run_id: str) -> Path:
        """Return where a run's files are."""
        return self.var / "runs" / run_id


class Execution:
    """A run. `work` returns when its process has ended and all was said; `end` ends it and gives its files back."""

    def __init__(self, run_id: str, data: Frame, host: Host) -> None:
        self.run_id = run_id
        self._context: dict[str, Any] = data["context"]
        self._name = str(self._context["name"])
        self._host = host
        self._root = host.directory(run_id)
        self.output = Sender("output", self._send)
        self._input = Receiver()
        self._to_process: asyncio.Queue[bytes] = asyncio.Queue()
        self._ending: asyncio.Lock = asyncio.Lock()
        self._working: asyncio.Task[Any] | None = None

    async def work(self) -> None:
        """Do it. Never raises for what the run does; `end` cancels it."""
        self._working = asyncio.current_task()
        pump = asyncio.create_task(self.output.pump())
        try:
            code, said = await self._execute_or_say_why()
            self.output.finish({"code": code, "stderr": said})
            await pump
        finally:
            pump.cancel()

    async def _execute_or_say_why(self) -> tuple[int, str]:
        try:
            return await self._execute()
        except (RuntimeProblem, BadArchive, OSError, ValueError, KeyError, TypeError, Refused, *AWAY) as error:
            logger.exception("run %s could not be started", self.run_id)
            return CANNOT_START, f"The worker could not start it: {error}"

    async def _execute(self) -> tuple[int, str]:
        launcher, arguments = await self._prepare()
        # The launcher keeps to the variables that the SDK meant for its CLI; docker's client needs ours.
        environment = {**os.environ, **self._context["environment"]}
        process = await asyncio.create_subprocess_exec(
            str(launcher),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        feeding = asyncio.create_task(self._feed(process))
        try:
            async with asyncio.timeout(float(self._context["wall_seconds"]) + MORE_S):
                _, said = await asyncio.gather(self._pass_on(process), _tail(process))
                code = await process.wait()
        except TimeoutError:
            await self.kill()
            return 1, "The worker ended it: its time was long over, and nobody said so."
        finally:
            feeding.cancel()
        return (code if code >= 0 else 128 - code), said

    async def _prepare(self) -> tuple[Path, list[str]]:
        runtime, context = self._host.runtime, self._context
        await asyncio.to_thread(self._make_room)
        archive = self._root / "files.tar"
        await self._host.server.download(self.run_id, archive)
        doors = await self._host.doors(str(context["project"]))
        spec = self._spec(doors)
        places = self._places(spec, doors)
        await asyncio.to_thread(self._unpack, archive, places)
        arguments = [filled_in(str(one), places) for one in context["arguments"]]
        return await asyncio.to_thread(runtime.launcher, spec), arguments

    def _make_room(self) -> None:
        self._host.runtime.kill(self._name)  # left by an earlier life of this program
        self._host.runtime.remove_directory(self._root)
        self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._host.runtime.make_directory(self._root, disk_mb=int(self._context["limits"]["disk_mb"]))

    def _unpack(self, archive: Path, places: dict[str, str]) -> None:
        unpack(archive, self._root / "new", names=["workspace", "home", "empty"], most=Most())
        archive.unlink()
        for part in (self._root / "new").iterdir():
            part.rename(self._root / part.name)
        (self._root / "home").chmod(0o700)
        (self._root / "control").mkdir(mode=0o700)
        config = self._root / "home" / "mcp.json"
        config.write_text(filled_in(config.read_text(encoding="utf-8"), places), encoding="utf-8")
        config.chmod(0o600)

    def _spec(self, doors: dict[str, str]) -> SandboxSpec:
        context = self._context
        of = {"run": self._root, "program": BASE_DIR}
        return SandboxSpec(
            name=self._name,
            project=str(context["project"]),
            workspace=self._root / "workspace",
            home=self._root / "home",
            control=self._root / "control",
            env={name: filled_in(value, doors) for name, value in context["env"].items()},
            limits=Limits(**context["limits"]),
            labels=context["labels"],
            read_only_workspace=context["read_only_workspace"],
            mounts=tuple(Mount(of[m["of"]] / m["path"], m["inside"], m["read_only"]) for m in context["mounts"]),
        )

    def _places(self, spec: SandboxSpec, doors: dict[str, str]) -> dict[str, str]:
        runtime = self._host.runtime
        own = {HOME: runtime.home_path(spec), WORKSPACE: runtime.workspace_path(spec), PROGRAM: str(BASE_DIR)}
        return own | doors

    # -- streams

    async def _send(self, kind: str, data: Frame) -> None:
        await self._host.send({"type": kind, "data": {"subtask_id": self.run_id, **data}})

    async def take_input(self, data: Frame) -> None:
        """Take what the server says to the process, and acknowledge it."""
        was_over = self._input.end is not None
        if new := self._input.take(data):
            self._to_process.put_nowait(new)
        if self._input.end is not None and not was_over:
            self._to_process.put_nowait(b"")
        await self._send("ack", self._input.acknowledgement())

    async def _feed(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        with suppress(OSError):  # it closed its input, or ended
            while data := await self._to_process.get():
                process.stdin.write(data)
                await process.stdin.drain()
        process.stdin.close()

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(READ_BYTES):
            await self.output.write(data)

    # -- the end

    async def kill(self) -> None:
        """End all its processes. Raises RuntimeProblem."""
        await asyncio.to_thread(self._host.runtime.kill, self._name)

    async def end(self, request: str) -> None:
        """End it, give its files back if they are asked for, and remove them here."""
        async with self._ending:
            await self.kill()
            if request:
                archive = self._host.var / f"{self.run_id}.tar"
                try:
                    if (self._root / "workspace").is_dir():
                        await asyncio.to_thread(pack, self._root, ["workspace"], archive)
                        await self._host.server.give_back(self.run_id, request, archive)
                    else:
                        await self._host.server.has_nothing(self.run_id, request)
                finally:
                    archive.unlink(missing_ok=True)
            await asyncio.to_thread(self._host.runtime.remove_directory, self._root)
            # Whoever ended it listens no more: nobody would ever acknowledge the rest of what it says.
            if self._working is not None:
                self._working.cancel()


async def _tail(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    tail = b""
    while data := await process.stderr.read(READ_BYTES):
        tail = (tail + data)[-TAIL_BYTES:]
    return tail.decode(errors="replace")
