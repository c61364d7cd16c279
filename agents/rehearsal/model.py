"""One turn of the rehearsal model: from a request to its answer. A pure function of the request."""

from __future__ import annotations

import hashlib

from .context import Context, find_context, turns
from .scripts import play
from .usage import output_tokens
from .wire import JSON, Answer, ToolUse

SIDE_CALL = "This is the rehearsal model. It works on tasks that Eklavya hands out and answers nothing else."


def context_of(body: JSON) -> Context | None:
    """The context, if this is the request of a run: side calls of the CLI offer no tools."""
    return find_context(body) if body.get("tools") else None


def answer(body: JSON, context: Context | None) -> Answer:
    """What the model says next."""
    if context is None:
        return _fit(Answer(SIDE_CALL), body["max_tokens"])
    done = turns(body)
    offered = {str(tool["name"]) for tool in body["tools"]}
    text, calls = play(context, done, offered)
    uses = [
        ToolUse(identifier("toolu_", context.run, len(done), index), call.tool, call.input)
        for index, call in enumerate(calls)
    ]
    return _fit(Answer(text, uses, "tool_use" if uses else "end_turn"), body["max_tokens"])


def identifier(prefix: str, *parts: object) -> str:
    """An id that looks like the API's and is the same for the same parts."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()
    return f"{prefix}{digest[:24]}"


def _fit(whole: Answer, max_tokens: int) -> Answer:
    """As much of the answer as the limit allows; calls left out are made in the next turn."""
    kept = whole
    while output_tokens(kept) > max_tokens and len(kept.tool_uses) > 1:
        kept = Answer(kept.text, kept.tool_uses[:-1], kept.stop_reason)
    if output_tokens(kept) <= max_tokens:
        return kept
    return Answer((whole.text or "…")[: max_tokens * 4], [], "max_tokens")
