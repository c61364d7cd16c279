"""The life of a remote worker: it joins, beats, listens, and hands its runs over before it ends."""

import asyncio
import json
import logging
import re
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import websockets
from websockets.asyncio.client import ClientConnection

from agents import machine
from agents.runtimes.answering import Answering
from agents.runtimes.contract import Networked, Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.runtimes.registry import Choice, choose
from agents.worker.execution import Execution, Host
from agents.worker.forwarding import Door, Doors
from agents.worker.server import AWAY, Refused, Server

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
"""Between two tries to reach a server that is away."""
HAND_OVER_S = 60.0
"""How long a stopping worker waits for the server to take its runs' files."""
POLL_S = 0.2
TIDY_S, IDLE_S = 60.0, 600.0
"""How often networks of projects are looked for that nobody asked for in the second time."""
Frame = dict[str, Any]
_RUN_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True)
class Settings:
    """What the command line said. `gateway` and `egress`: host and port, where they are not the server's. `listen`: the
    address at which agents find them here; empty for that of each project's network alone."""

    url: str
    key: str
    name: str
    var: Path
    runtime: Literal["auto", "docker", "local"] = "auto"
    image: str = "eklavya-sandbox:latest"
    capacity: int = 2
    gateway: str = ""
    egress: str = ""
    listen: str = ""

    def __repr__(self) -> str:
        return f"Settings({self.url}, {self.name})"


class Program:
    """One worker process. `run` returns after an orderly stop; a second signal ends it at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.server = Server(settings.url, settings.key)
        self.worker_id = ""
        self.joined: Frame = {}
        self._stopping = asyncio.Event()
        self._connection: ClientConnection | None = None
        self._host: Host | None = None
        self._answering = Answering()
        self._doors = Doors({})
        self._runs: dict[str, Execution] = {}
        self._ending: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: Frame = {}

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT. Raises Refused when the server does not let this machine in."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        self.settings.var.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            chosen = await asyncio.to_thread(self._choose)
            if await self._join(chosen):
                await self._open_doors()
                await self._work()
        finally:
            await self._close()

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            raise SystemExit(1)
        logger.info("stopping: runs are handed over")
        self._stopping.set()

    def _choose(self, host_ports: tuple[int, ...] = ()) -> Choice:
        # Asked for by whoever starts this program, who is told that it is not isolated by the page of workers.
        return choose(
            self.settings.runtime,
            state_dir=self.settings.var / "sandboxes",
            image=self.settings.image,
            namespace=f"eklavya-{machine.machine_id(self.settings.var, part=str(self.settings.var))[:8]}",
            host_ports=host_ports,
        )

    async def _open_doors(self) -> None:
        """Lead the agents' doors on this machine to the server's, and clear away what an earlier life left."""
        made = {}
        for name, given in (("gateway_port", self.settings.gateway), ("egress_port", self.settings.egress)):
            host, _, port = given.rpartition(":")
            made[self.joined[name]] = Door(
                host or self.server.host, int(port or self.joined[name]), self.server.is_encrypted
            )
        self._doors = Doors(made, listen=self.settings.listen)
        numbers = await self._doors.reserve()
        # Once more: sandboxes reach no port of their host but those that are named.
        runtime = (await asyncio.to_thread(self._choose, numbers)).runtime

        async def doors(project: str) -> dict[str, str]:
            return await self._doors.open_for(project, runtime)

        self._host = Host(self.settings.var, runtime, self.server, doors, self.send)
        await asyncio.to_thread(_clear, runtime, self.settings.var)

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._host is not None:
            try:
                await asyncio.to_thread(_clear, self._host.runtime, self.settings.var, for_good=True)
            except RuntimeProblem as problem:  # the next life of this program clears it away
                logger.warning("not all of the sandboxes could be removed: %s", problem)
        await self._doors.close()
        await self.server.close()

    async def _tidy(self) -> None:
        """Remove the networks of projects that are not worked on here any more."""
        assert self._host is not None
        runtime = self._host.runtime
        while isinstance(runtime, Networked):
            await asyncio.sleep(TIDY_S)
            try:
                await self._doors.shut_idle(runtime, idle_s=IDLE_S)
            except RuntimeProblem as problem:  # the next time
                logger.warning("networks could not be looked after: %s", problem)

    async def _join(self, chosen: Choice) -> bool:
        facts = machine.facts()
        about = {
            "machine_id": machine.machine_id(self.settings.var, part=str(self.settings.var)),
            "machine_name": self.settings.name,
            "runtime": chosen.runtime.name,
            "capacity": self.settings.capacity,
            "available_tools": machine.tools(runtime=chosen.runtime.name, isolated=chosen.runtime.isolated),
            "weaknesses": list(chosen.weaknesses),
            **facts,
        }
        told = await self._patiently(lambda: self.server.join(about))
        if told is None:
            return False
        self.joined, self.worker_id = told, told["worker_id"]
        logger.info("joined as %s (%s), trust %s", told["name"], self.worker_id, told["trust"])
        return True

    async def _work(self) -> None:
        tasks = {asyncio.create_task(self._beat()), asyncio.create_task(self._listen())}
        stopping = asyncio.create_task(self._stopping.wait())
        self._start(self._tidy())
        try:
            done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # neither ends by itself, but by being refused
            await self._hand_over()
        finally:
            for task in {*tasks, stopping}:
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)

    async def _hand_over(self) -> None:
        """Have the server end the runs, which takes their files away, and sign off."""
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await self._beat_once()
                while self.running():
                    await asyncio.sleep(POLL_S)
        except (*AWAY, Refused) as error:
            logger.warning("not all runs were handed over: %r", error)
        with suppress(*AWAY, Refused):
            await self.server.leave(self.worker_id)
            logger.info("signed off")

    def running(self) -> list[str]:
        """Return the ids of the runs that are here."""
        return list(self._runs)

    # -- heartbeats

    async def _beat(self) -> None:
        while True:
            try:
                await self._beat_once()
            except AWAY as error:
                logger.warning("no heartbeat: %r", error)
            except Refused as refused:
                # Asked again: a clock is set right, a worker forgotten and let in again. What is lasting ends it.
                logger.error("a heartbeat was refused: %s", refused)
                if refused.status in {401, 403, 404}:
                    raise
            await asyncio.sleep(self.joined["heartbeat_seconds"])

    async def _beat_once(self) -> None:
        of = self._host.runtime if self._host is not None else None
        problem = self._answering.problem(of) if of is not None else ""
        reading = machine.read(self.settings.var, of=of, runtime_problem=problem).as_json()
        reading.pop("clock_behind_s")
        status = "stopping" if self._stopping.is_set() else "online"
        said = {"status": status, "resources": reading, "running": self.running()}
        heard = await self.server.beat(self.worker_id, said)
        for run_id in heard["unwanted"]:
            await self.on_frame({"type": "task_cancel", "data": {"subtask_id": run_id, "reason": "unwanted"}})

    # -- the WebSocket

    async def _listen(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with self.server.socket(self.worker_id) as connection:
                    self._connection = connection
                    wait_s = FIRST_WAIT_S
                    await self._resume()
                    await self._read(connection)
                    logger.info("the connection was lost: the server closed it")
            except websockets.InvalidStatus as error:
                logger.warning("the WebSocket was refused: %s", error)
            except AWAY as error:
                logger.info("the connection was lost: %r", error)
            finally:
                self._connection = None
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _read(self, connection: ClientConnection) -> None:
        async for text in connection:
            try:
                frame = json.loads(text)
                kind, data = frame["type"], frame["data"]
            except (ValueError, KeyError, TypeError):
                logger.warning("a frame could not be read")
                continue
            if kind == "ping":
                await self.send({"type": "pong", "data": {"worker_id": self.worker_id}})
            else:
                await self.on_frame({"type": kind, "data": data})

    async def send(self, frame: Frame) -> None:
        """Send a frame if there is a connection. Whatever has to arrive is sent again by whoever sent it."""
        if self._connection is not None:
            with suppress(websockets.WebSocketException, OSError):
                await self._connection.send(json.dumps(frame))

    # -- runs

    async def _resume(self) -> None:
        """The WebSocket is open, for the first time or again: what was on its way may be lost."""
        for execution in self._runs.values():
            execution.output.rewind()

    async def on_frame(self, frame: Frame) -> None:
        """Take what the server sent."""
        data = frame["data"]
        run_id = str(data.get("subtask_id", ""))
        execution = self._runs.get(run_id)
        match frame["type"]:
            case "task_assignment":
                await self._assigned(run_id, data)
            case "task_cancel":
                self._cancelled(run_id, str(data.get("request", "")))
            case "input" if execution is not None:
                await execution.take_input(data)
            case "ack" if execution is not None:
                execution.output.acknowledged(data.get("offset"), is_end=data.get("end") is True)
            case "input":
                await self._reject(run_id, "unknown_run")
            case "error":
                logger.warning("the server refused a frame: %s", data.get("message"))

    async def _assigned(self, run_id: str, data: Frame) -> None:
        assert self._host is not None
        if run_id in self._ending:
            return
        if run_id not in self._runs:
            if self._stopping.is_set():
                await self._reject(run_id, "shutdown_in_progress")
                return
            if not _RUN_ID.fullmatch(run_id):
                return
            logger.info("run %s begins: %s", run_id, data.get("description"))
            self._runs[run_id] = Execution(run_id, data, self._host)
            self._start(self._runs[run_id].work())
        await self.send({"type": "accepted", "data": {"subtask_id": run_id, "worker_id": self.worker_id}})

    async def _reject(self, run_id: str, reason: str) -> None:
        data = {"subtask_id": run_id, "worker_id": self.worker_id, "reason": reason}
        await self.send({"type": "task_rejected", "data": data})

    def _cancelled(self, run_id: str, request: str) -> None:
        if run_id in self._ending or not _RUN_ID.fullmatch(run_id):
            return
        if run_id in self._runs or request:
            self._ending.add(run_id)
            self._start(self._end(run_id, request))

    async def _end(self, run_id: str, request: str) -> None:
        """End a run and give its files back; of one that is not here, say so. The server asks until it is done."""
        assert self._host is not None
        execution = self._runs.get(run_id)
        try:
            if execution is not None:
                await execution.end(request)
            else:
                await self.server.has_nothing(run_id, request)
        except Refused as refused:
            # Its files stay, should anybody want to look: the server names it as unwanted when the run is over there.
            logger.warning("run %s: %s", run_id, refused)
            return
        except (RuntimeProblem, OSError, *AWAY) as error:
            logger.exception("run %s could not be ended: %r", run_id, error)
            return
        finally:
            self._ending.discard(run_id)
        if self._runs.pop(run_id, None) is not None:
            logger.info("run %s ended here", run_id)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _patiently(self, ask: Callable[[], Awaitable[Frame]]) -> Frame | None:
        """Ask until the server answers; None when told to stop meanwhile."""
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            try:
                return await ask()
            except AWAY as error:
                logger.warning("the server does not answer: %r", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        return None


def _clear(runtime: Runtime, var: Path, *, for_good: bool = False) -> None:
    """End and remove what is left of runs: of an earlier life that was killed, or of this one that ends `for_good`."""
    for name in runtime.list_sandboxes():
        runtime.kill(name)
    for project in runtime.list_projects():
        runtime.remove_project(project)
    for directory in (var / "runs").glob("*"):
        runtime.remove_directory(directory)
    if for_good and isinstance(runtime, Networked):
        runtime.remove_rules()
