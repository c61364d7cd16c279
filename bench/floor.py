"""The Claude Code CLI started by hand, in a sandbox of the runtime under test: what no platform can be faster than."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.models import Run

LONGEST_S = 60
_PROJECT = "floor"
_BARE = ("-p", "hello", "--tools", "Read,Write,Edit,Glob,Grep", "--strict-mcp-config", "--setting-sources", "")


class Floor:
    """Starts CLIs by hand, in a namespace of its own: of the host its sandboxes reach one bare server alone.

    Needs Django set up on an installation (`bench.installation`). Use it as a context.
    """

    def __init__(self, port: int) -> None:
        """`port` must be free at every address of the host."""
        self._port = port
        self._stack = ExitStack()

    def __enter__(self) -> "Floor":
        from django.conf import settings

        from agents.runtimes.registry import choose

        self._root = Path(self._stack.enter_context(TemporaryDirectory(prefix="eklavya-floor-")))
        self._runtime = choose(
            settings.EKLAVYA_RUNTIME,
            state_dir=self._root / "sandboxes",
            image=settings.EKLAVYA_IMAGE,
            namespace=f"floor-{os.getpid()}",
            host_ports=(self._port,),
        ).runtime
        self._host = self._runtime.host_address(_PROJECT)
        self._server = _BareServer(self._host, self._port)
        self._stack.callback(self._server.stop)
        return self

    def __exit__(self, *_: object) -> None:
        from agents.runtimes.docker import DockerRuntime

        self._stack.callback(self._runtime.remove_project, _PROJECT)
        if isinstance(self._runtime, DockerRuntime):
            self._stack.callback(self._runtime.remove_rules)
        self._stack.close()

    def bare(self) -> float:
        """Seconds to the first request of the CLI alone: one prompt, a few tools."""
        return self._start(_BARE, b"")

    def like(self, run: "Run") -> float:
        """Seconds to the first request of the CLI with the same command line as the run's, and the same first message.

        Its MCP server answers at once, from memory.
        """
        from agents.context import first_message
        from agents.prompts import prompt_for
        from agents.roles import policy_of, tools_of
        from agents.supervisor.workplace import MCP_SERVER
        from projects.roles import Role

        tools = tools_of(policy_of(run))
        server = {"type": "http", "url": f"http://{self._host}:{self._port}/mcp", "headers": {"Authorization": "none"}}
        message = {"type": "user", "message": {"role": "user", "content": first_message(run)}}
        arguments = [
            *("--output-format", "stream-json", "--verbose", "--input-format", "stream-json"),
            *("--system-prompt", prompt_for(Role(run.task.role), run.prompt_version_id).text),
            *("--tools", ",".join(tools.offered)),
            *("--allowedTools", ",".join([*tools.allowed, f"mcp__{MCP_SERVER}"])),
            *("--model", run.model, "--permission-mode", "dontAsk"),
            *("--mcp-config", json.dumps({"mcpServers": {MCP_SERVER: server}}), "--strict-mcp-config"),
            *("--setting-sources", "", "--settings", '{"skipWebFetchPreflight": true}'),
        ]
        return self._start(arguments, json.dumps(message).encode() + b"\n")

    def _start(self, arguments: Sequence[str], given: bytes) -> float:
        from agents.runtimes.contract import SandboxSpec

        env = {
            "ANTHROPIC_BASE_URL": f"http://{self._host}:{self._port}",
            "ANTHROPIC_API_KEY": "floor",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        name = f"floor-{time.monotonic_ns()}"
        directories = {part: self._root / name / part for part in ("workspace", "home", "control")}
        for directory in directories.values():
            directory.mkdir(parents=True)
        launcher = self._runtime.launcher(SandboxSpec(name=name, project=_PROJECT, env=env, **directories))
        self._server.arrived.clear()
        return asyncio.run(self._await_request(name, [str(launcher), *arguments], given))

    async def _await_request(self, name: str, command: list[str], given: bytes) -> float:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        assert process.stdin is not None
        process.stdin.write(given)
        if not given:
            process.stdin.close()
        try:
            if not await asyncio.to_thread(self._server.arrived.wait, LONGEST_S):
                raise SystemExit(f"the CLI made no request within {LONGEST_S} s")
            return self._server.at - began
        finally:
            await asyncio.to_thread(self._runtime.kill, name)
            await process.wait()


class _BareServer:
    """The model's API, which only notes that it was asked, and an MCP server that lists the platform's verbs."""

    def __init__(self, host: str, port: int) -> None:
        import uvicorn
        from starlette.applications import Starlette
        from starlette.responses import Response
        from starlette.routing import Mount, Route

        self.arrived = threading.Event()
        self.at = 0.0

        async def messages(_: Any) -> Response:
            if not self.arrived.is_set():
                self.at = time.monotonic()
                self.arrived.set()
            return Response(status_code=503)

        manager = _mcp_manager()
        # All but the model's path is MCP: a mount at /mcp would not serve the CLI, which asks for it without a slash.
        app = Starlette(
            routes=[Route("/v1/messages", messages, methods=["POST"]), Mount("", manager.handle_request)],
            lifespan=lambda _: manager.run(),
        )
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="error", access_log=False))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


def _mcp_manager() -> Any:
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    from agents.gateway.verbs import VERBS

    tools = [
        types.Tool(name=verb.name, description=verb.description, input_schema=verb.arguments.model_json_schema())
        for verb in VERBS.values()
    ]

    async def list_tools(*_: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    return StreamableHTTPSessionManager(
        Server("floor", on_list_tools=list_tools),
        json_response=True,
        stateless=True,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
