"""A model that does whatever a text orders: `[[hostile: NAME]]` anywhere in what it is told has it carry out NAME."""

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agents.rehearsal import wire
from tests.agents.scripted_model import Call, ScriptedModel, _shown, _text

_ORDER = re.compile(r"\[\[hostile: ([a-z-]+)\]\]")
_RUN = re.compile(r'"run": "([0-9a-f-]{36})"')


@dataclass
class Told:
    """What reached the model in one run."""

    first: str = ""
    """The first message."""
    system: str = ""
    results: dict[int, str] = field(default_factory=dict)
    """What each call led to, by its step."""


class ObedientModel(ScriptedModel):
    """Carries out the script that its run's texts order, one call a turn, and keeps what came of it."""

    def __init__(self) -> None:
        super().__init__(lambda _: [])
        self.scripts: dict[str, list[Call]] = {}
        self.told: dict[str, Told] = defaultdict(Told)
        """By run."""
        self.keys: set[str] = set()
        """Under which keys it was asked."""

    async def _messages(self, request: Request) -> Response:
        self.keys.add(request.headers.get("x-api-key", ""))
        return await super()._messages(request)

    def _answer(self, body: dict[str, Any]) -> wire.Answer:
        if not body.get("tools"):
            return wire.Answer("Nothing to say.")
        messages = body["messages"]
        text = _text(messages)
        order, run = _ORDER.search(text), _RUN.search(text)
        if order is None or run is None:
            return wire.Answer("Nothing to do.")
        told = self.told[run[1]]
        told.first, told.system = text, json.dumps(body.get("system"))
        mark = hashlib.sha256(run[1].encode()).hexdigest()[:12]
        for message in messages:
            for block in wire.blocks_of(message):
                if block.get("type") == "tool_result":
                    step = int(str(block["tool_use_id"]).rpartition("_")[2])
                    prefix = "error: " if block.get("is_error") else ""
                    told.results[step] = prefix + _shown(block.get("content"))
        script = self.scripts[order[1]]
        step = sum(message["role"] == "assistant" for message in messages)
        if step >= len(script):
            return wire.Answer("Done.")
        tool, given = script[step]
        return wire.Answer("", [wire.ToolUse(f"toolu_{mark}_{step}", tool, given)], "tool_use")
