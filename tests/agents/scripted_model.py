"""A model that calls the tools it was told to, whatever comes of it, and keeps what came of each call."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agents.rehearsal import wire

Call = tuple[str, dict[str, Any]]
"""A tool and its input."""


@dataclass
class ScriptedModel:
    """Answers like the Messages API. `script_for` is given the first message's text: it says whose run this is.

    Each step of a script is the calls of one turn; after the last one the model ends its turn. Who has no script, such
    as a subagent, is told that all is done.
    """

    script_for: Callable[[str], list[list[Call]]]
    results: dict[str, str] = field(default_factory=dict)
    """What each call led to, by its id: `toolu_<step>_<number>`."""
    offered: set[str] = field(default_factory=set)
    """The tools of the last request that had a script."""

    def app(self) -> Starlette:
        """Return the server's application."""
        return Starlette(
            routes=[
                Route("/v1/messages", self._messages, methods=["POST"]),
                Route("/v1/messages/count_tokens", self._count, methods=["POST"]),
                Route("/healthz", self._healthy),
            ]
        )

    async def _healthy(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _count(self, _: Request) -> Response:
        return JSONResponse({"input_tokens": 1000})

    async def _messages(self, request: Request) -> Response:
        body = json.loads(await request.body())
        answer = self._answer(body)
        usage = {"input_tokens": 1000, "output_tokens": 100}
        # The CLI takes answers of one id for parts of one.
        message = {
            "message_id": f"msg_{len(body['messages'])}_{uuid.uuid4().hex}",
            "model": body["model"],
            "usage": usage,
        }
        if not body.get("stream"):
            return JSONResponse(wire.message(answer, **message))
        events = b"".join(wire.encode(event) for event in wire.events(answer, **message))
        return Response(events, media_type="text/event-stream")

    def _answer(self, body: dict[str, Any]) -> wire.Answer:
        if not body.get("tools"):
            return wire.Answer("Nothing to say.")
        done = sum(message["role"] == "assistant" for message in body["messages"])
        script = self.script_for(_text(body["messages"]))
        if script:
            self.offered = {str(tool["name"]) for tool in body["tools"]}
            self._keep(body["messages"])
        if done >= len(script):
            return wire.Answer("Done.")
        uses = [
            wire.ToolUse(f"toolu_{done}_{number}", tool, given) for number, (tool, given) in enumerate(script[done])
        ]
        return wire.Answer("", uses, "tool_use")

    def _keep(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            for block in wire.blocks_of(message):
                if block.get("type") == "tool_result":
                    mark = "error: " if block.get("is_error") else ""
                    self.results[str(block["tool_use_id"])] = mark + _shown(block.get("content"))


def _shown(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _text(messages: list[dict[str, Any]]) -> str:
    return "\n".join(str(block.get("text", "")) for block in wire.blocks_of(messages[0]))
