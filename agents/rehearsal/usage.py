"""Token counts that are plausible and always the same for the same request: four bytes are a token."""

from __future__ import annotations

import json
from typing import Any

from .wire import JSON, Answer

# What the API itself leaves outside the cached part of a prompt that has a breakpoint at its end.
_AFTER_BREAKPOINT = 3


def tokens(value: Any) -> int:
    """The tokens of a text, or of anything as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return max(1, -(-len(text.encode("utf-8", "replace")) // 4))


def input_tokens(body: JSON) -> int:
    """The tokens of a whole prompt."""
    return tokens([body.get("system"), body.get("tools"), body.get("messages")])


def output_tokens(answer: Answer) -> int:
    """The tokens of an answer."""
    return sum(tokens(block.get("text") or block) for block in answer.blocks())


def usage(body: JSON, answer: Answer) -> JSON:
    """The usage of one request: what the conversation sent before is read from the cache, the rest is written to it.

    A prompt without any `cache_control` is not cached, as with the API.
    """
    total = input_tokens(body)
    read = written = 0
    if '"cache_control"' in json.dumps(body):
        read = _sent_before(body)
        written = max(total - read - _AFTER_BREAKPOINT, 0)
    return {
        "input_tokens": total - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens(answer),
        "service_tier": "standard",
    }


def _sent_before(body: JSON) -> int:
    messages = body["messages"]
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        return 0
    return min(input_tokens({**body, "messages": messages[: turns[-1]]}), input_tokens(body))
