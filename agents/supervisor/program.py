"""The Claude Code CLI of one run, as claude-agent-sdk starts it, speaks to it and lets go of it."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLIConnectionError,
    HookContext,
    HookInput,
    HookJSONOutput,
)

from agents.actions.runs import ProgramTimes
from agents.supervisor.inbox import Inbox, hooks
from agents.supervisor.pipe import Pipe

logger = logging.getLogger(__name__)

# The SDK would start the CLI, in a sandbox of its own, only to ask its version, before every run. We pin both.
os.environ["CLAUDE_AGENT_SDK_SKIP_VERSION_CHECK"] = "1"

# How long the SDK may take to notice that the CLI is gone.
_NOTICE_S = 10.0


class Program:
    """The CLI of one run, as the SDK speaks to it. With `servers` it boots without them, and is told of them later."""

    def __init__(
        self,
        options: ClaudeAgentOptions,
        *,
        clock: Callable[[], datetime],
        servers: Mapping[str, Any] | None = None,
    ) -> None:
        self.inbox: Inbox | None = None
        self.clock = clock
        self.times = ProgramTimes()
        self.stderr: list[str] = []
        options.hooks = hooks(self._between_calls)
        options.stderr = lambda line: self.stderr.append(line[:500]) if len(self.stderr) < 50 else None
        self.pipe = Pipe(options)
        self.client = ClaudeSDKClient(options, self.pipe)
        self._servers = dict(servers or {})

    @property
    def pid(self) -> int | None:
        """The process on this machine that the SDK speaks to, as long as it does: the CLI itself, or what passes its
        words on to a container or to another machine."""
        process = getattr(self.client._transport, "_process", None)
        return process.pid if process else None

    async def boot(self) -> None:
        """Start it."""
        self.times.began_at = self.clock()
        await self.client.connect()
        self.times.up_at = self.clock()

    async def connect(self) -> None:
        """Start it unless it is up; then have it connect to its servers. From here on it may be spoken to."""
        if not self.times.up_at:
            await self.boot()
        if self._servers:
            assert self.client._query is not None
            # The SDK has no call for this one yet; it sends the CLI's others just so.
            asked = {"subtype": "mcp_set_servers", "servers": self._servers}
            answer = await self.client._query._send_control_request(asked)
            if answer.get("errors"):
                raise CLIConnectionError(f"no connection to {answer['errors']}")

    async def _between_calls(self, asked: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
        return await self.inbox.between_calls(asked) if self.inbox else {}


async def hang_up(program: Program, kill: Callable[[], None], *, grace_s: float) -> None:
    """Let the CLI go, then kill it. Only then does the SDK let go of it too: it would wait for a CLI that hangs."""
    leaving = asyncio.create_task(program.client.disconnect())
    if grace_s:
        await asyncio.wait({leaving}, timeout=grace_s)
    await asyncio.to_thread(kill)
    program.times.ended_at = program.clock()
    await asyncio.wait({leaving}, timeout=_NOTICE_S)
    if not leaving.done():
        leaving.cancel()
    elif error := leaving.exception():
        logger.info("the CLI did not disconnect: %r", error)
