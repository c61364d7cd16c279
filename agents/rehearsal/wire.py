"""The Anthropic Messages API as seen from the server: checks of a request, shapes of answers, errors and events.

Source: https://docs.anthropic.com/en/api/messages and /en/api/messages-streaming.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]

MAX_BODY_BYTES = 32 * 1024 * 1024
MODELS = (
    ("claude-opus-5-5", "Claude Opus 5.5"),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5"),
    ("claude-haiku-5-5", "Claude Haiku 5.5"),
    ("claude-opus-5", "Claude Opus 5"),
    ("claude-sonnet-5", "Claude Sonnet 5"),
    ("claude-opus-4-8", "Claude Opus 4.8"),
    ("claude-opus-4-5", "Claude Opus 4.5"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6"),
    ("claude-sonnet-4-5", "Claude Sonnet 4.5"),
    ("claude-haiku-4-5", "Claude Haiku 4.5"),
)
_CREATED_AT = "2026-01-01T00:00:00Z"
# Families, with a version, a date and the CLI's marker for a long context; anything else is an unknown model.
_MODEL = re.compile(
    r"claude-(?:opus|sonnet|haiku|fable|mythos)-(?:\d{1,2}(?:-\d{1,2})?|preview)(?:-\d{8}|-latest)?(?:\[1m\])?"
)
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}
_TEXT_CHUNK = 40
_INPUT_CHUNKS = 10


class ApiError(Exception):
    """An error in the API's own words; `kind` decides the status."""

    def __init__(self, kind: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = _STATUS[kind]
        self.retry_after_s = retry_after_s

    def body(self, request_id: str) -> JSON:
        """The error as the API sends it."""
        return {"type": "error", "error": {"type": self.kind, "message": self.message}, "request_id": request_id}


@dataclass(frozen=True)
class ToolUse:
    """A tool call as it goes over the wire."""

    id: str
    name: str
    input: JSON


@dataclass(frozen=True)
class Answer:
    """What the model says in one turn."""

    text: str
    tool_uses: list[ToolUse] = field(default_factory=list)
    stop_reason: str = "end_turn"

    def blocks(self) -> list[JSON]:
        """The content blocks."""
        text = [{"type": "text", "text": self.text}] if self.text or not self.tool_uses else []
        uses = [{"type": "tool_use", "id": use.id, "name": use.name, "input": use.input} for use in self.tool_uses]
        return [*text, *uses]


def check_request(body: object, *, counting: bool = False) -> JSON:
    """The request, if it is one the API would take. Raises ApiError."""
    if not isinstance(body, dict):
        raise ApiError("invalid_request_error", "The request body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError("invalid_request_error", "model: Field required")
    check_model(model)
    if not counting:
        _check_max_tokens(body)
    _check_messages(body.get("messages"))
    tools = body.get("tools", [])
    if not isinstance(tools, list) or any(not isinstance(tool, dict) or not tool.get("name") for tool in tools):
        raise ApiError("invalid_request_error", "tools: Input should be a valid list of tools with names")
    if not isinstance(body.get("stream", False), bool):
        raise ApiError("invalid_request_error", "stream: Input should be a valid boolean")
    return body


def check_model(model: str) -> None:
    """Raises ApiError not_found_error for a model that does not exist."""
    if not _MODEL.fullmatch(model):
        raise ApiError("not_found_error", f"model: {model[:100]}")


def _check_max_tokens(body: JSON) -> None:
    if "max_tokens" not in body:
        raise ApiError("invalid_request_error", "max_tokens: Field required")
    value = body["max_tokens"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError("invalid_request_error", "max_tokens: Input should be a valid integer")
    if value < 1:
        raise ApiError("invalid_request_error", "max_tokens: Input should be greater than or equal to 1")


def _check_messages(messages: object) -> None:
    if messages is None:
        raise ApiError("invalid_request_error", "messages: Field required")
    if not isinstance(messages, list) or not messages:
        raise ApiError("invalid_request_error", "messages: at least one message is required")
    open_uses: set[str] = set()
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in {"user", "assistant", "system"}:
            raise ApiError("invalid_request_error", f"messages.{index}.role: Input should be 'user' or 'assistant'")
        if not isinstance(message.get("content"), str | list):
            raise ApiError("invalid_request_error", f"messages.{index}.content: Field required")
        if role != "system":
            open_uses = _check_uses(index, blocks_of(message), open_uses, role=role)


def _check_uses(index: int, blocks: list[JSON], open_uses: set[str], *, role: str) -> set[str]:
    """The ids of the tool calls that this message opens; every call has to be answered by the next message."""
    answered = {str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"}
    if answered - open_uses:
        raise ApiError(
            "invalid_request_error",
            f"messages.{index}.content: unexpected `tool_use_id` found in `tool_result` blocks: "
            f"{min(answered - open_uses)[:80]}",
        )
    if open_uses - answered:
        raise ApiError(
            "invalid_request_error",
            f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{min(open_uses - answered)[:80]}",
        )
    if role == "user":
        return set()
    return {str(block.get("id")) for block in blocks if block.get("type") == "tool_use"}


def blocks_of(message: JSON) -> list[JSON]:
    """The content blocks of a message; plain text is one block."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def model_info(model: str, name: str) -> JSON:
    """One entry of the list of models."""
    return {"type": "model", "id": model, "display_name": name, "created_at": _CREATED_AT}


def model_list() -> JSON:
    """The list of models, on one page."""
    data = [model_info(model, name) for model, name in MODELS]
    return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}


def message(answer: Answer, *, message_id: str, model: str, usage: JSON) -> JSON:
    """A whole answer that is not streamed."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": answer.blocks(),
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def events(answer: Answer, *, message_id: str, model: str, usage: JSON) -> Iterator[JSON]:
    """The same answer as the events of a stream, in the API's order."""
    start = message(Answer(""), message_id=message_id, model=model, usage={**usage, "output_tokens": 1})
    yield {"type": "message_start", "message": {**start, "content": [], "stop_reason": None}}
    yield {"type": "ping"}
    for index, block in enumerate(answer.blocks()):
        yield from _block_events(index, block)
    delta = {"stop_reason": answer.stop_reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def _block_events(index: int, block: JSON) -> Iterator[JSON]:
    if block["type"] == "text":
        start: JSON = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": part} for part in _parts(block["text"], _TEXT_CHUNK)]
    else:
        start = {**block, "input": {}}
        text = json.dumps(block["input"])
        size = max(8, -(-len(text) // _INPUT_CHUNKS))
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *_parts(text, size)]]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _parts(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def encode(event: JSON) -> bytes:
    """One server-sent event."""
    return f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
