"""What others write to an agent while it works: given between two of its tool calls, or when it ends its turn.

Nothing is asked for that: the lease keeper's beat says whether the inbox has something new (`Stop.has_mail`). Between
two calls it goes in as the platform's note beside a tool's result, and not as a word of the user: it is data, and the
agent goes on with what it does. What a run was given counts as read when the run succeeds (`messages.confirm`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from claude_agent_sdk import HookCallback, HookInput, HookJSONOutput, HookMatcher
from claude_agent_sdk.types import HookEvent

from agents.actions import verbs
from agents.context import messages_message
from agents.models import Run, RunEvent
from agents.supervisor.connections import AWAY, in_thread
from agents.supervisor.keeper import Stop

logger = logging.getLogger(__name__)

_ENDING = frozenset(f"mcp__eklavya__{name}" for name in verbs.ENDING_VERBS)
_EVENTS: tuple[HookEvent, ...] = ("PostToolUse", "PostToolUseFailure")
# The agent waits meanwhile. What was taken and did not arrive is read again by the next run.
_HOOK_TIMEOUT_S = 20.0


def hooks(between_calls: HookCallback) -> dict[HookEvent, list[HookMatcher]]:
    """Return what the CLI is to ask after each tool call."""
    return {event: [HookMatcher(hooks=[between_calls], timeout=_HOOK_TIMEOUT_S)] for event in _EVENTS}


@dataclass(frozen=True)
class Inbox:
    """The inbox of one run. `note(kind, payload)` adds a line to its transcript."""

    run: Run
    stop: Stop
    note: Callable[[RunEvent.Kind, dict[str, Any]], None]
    clock: Callable[[], datetime]

    async def take(self) -> str:
        """Return what is new, as the agent is told it; empty where nothing is."""
        self.stop.has_mail.clear()
        found = await in_thread(verbs.read_messages, self.run, now=self.clock())
        if not found:
            return ""
        self.note(RunEvent.Kind.MESSAGE, {"from": "inbox", "messages": found})
        return messages_message(found)

    async def between_calls(self, asked: HookInput) -> HookJSONOutput:
        """Return what is put beside a tool's result."""
        # Who has just handed in its work, or works for the agent, is not the one to be told.
        if not self.stop.has_mail.is_set() or asked.get("agent_id") or asked.get("tool_name") in _ENDING:
            return {}
        try:
            told = await self.take()
        except AWAY as error:  # the next beat says again that there is something
            logger.warning("the inbox of run %s was not read: %s", self.run.pk, error)
            return {}
        if not told:
            return {}
        if asked["hook_event_name"] == "PostToolUse":
            return {"hookSpecificOutput": {"hookEventName": "PostToolUse", "additionalContext": told}}
        return {"hookSpecificOutput": {"hookEventName": "PostToolUseFailure", "additionalContext": told}}
