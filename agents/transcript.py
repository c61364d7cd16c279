"""How a line of a transcript is shown: what happened in a word, one line of it, and the rest behind a fold.

The payload comes from an agent or its tools and is data of unknown shape: everything is read with a default, and
nothing but text leaves here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.models import RunEvent

LINE_CHARS = 240
DETAIL_CHARS = 20_000

_TOOLS: dict[str, tuple[str, str, str]] = {
    # tool: icon, what it is called, the argument that says most
    "Bash": ("terminal", "Ran", "command"),
    "Read": ("file-text", "Read", "file_path"),
    "Write": ("file-pen-line", "Wrote", "file_path"),
    "Edit": ("file-pen-line", "Edited", "file_path"),
    "MultiEdit": ("file-pen-line", "Edited", "file_path"),
    "Glob": ("search", "Looked for", "pattern"),
    "Grep": ("search", "Searched", "pattern"),
}
_VERB_PREFIX = "mcp__eklavya__"


@dataclass(frozen=True)
class Entry:
    """One line of the transcript, ready for `agents/_entry.html`."""

    seq: int
    at: datetime
    css: str
    icon: str
    what: str
    line: str = ""
    text: str = ""
    detail: str = ""
    tone: str = ""
    is_open: bool = False


def entry(event: RunEvent) -> Entry:
    """Return how the event is shown."""
    payload: Mapping[str, Any] = event.payload if isinstance(event.payload, Mapping) else {"text": event.payload}
    match RunEvent.Kind(event.kind):
        case RunEvent.Kind.TEXT:
            return _entry(event, "said", "message-square", "", text=_text(payload))
        case RunEvent.Kind.THINKING:
            return _entry(event, "thought", "brain", "", text=_text(payload))
        case RunEvent.Kind.TOOL_USE:
            return _tool_use(event, payload)
        case RunEvent.Kind.TOOL_RESULT:
            return _tool_result(event, payload)
        case RunEvent.Kind.MESSAGE:
            return _entry(event, "message", "send", "Told", text=_messages(payload) or _text(payload))
        case RunEvent.Kind.SYSTEM:
            return _system(event, payload)
        case RunEvent.Kind.RESULT:
            return _result(event, payload)
        case RunEvent.Kind.ERROR:
            return _entry(event, "problem", "circle-alert", "Error", text=_text(payload), tone="bad")


def _entry(event: RunEvent, css: str, icon: str, what: str, **fields: Any) -> Entry:
    return Entry(seq=event.seq, at=event.created_at, css=css, icon=icon, what=what, **fields)


def _system(event: RunEvent, payload: Mapping[str, Any]) -> Entry:
    if payload.get("event") != "started":
        return _entry(event, "mark", "info", "Platform", text=_text(payload))
    version, model = payload.get("claude_code_version") or "", payload.get("model") or ""
    line = _one_line(f"Claude Code {version} asks for {model}" if model else f"Claude Code {version}")
    return _entry(event, "mark", "play", "Started", line=line, detail=_pretty(payload))


def _result(event: RunEvent, payload: Mapping[str, Any]) -> Entry:
    said = payload.get("result")
    text = _plain(said)[:DETAIL_CHARS] if said else ""
    if payload.get("is_error"):
        what = str(payload.get("subtype") or "error").replace("_", " ").capitalize()
        return _entry(event, "problem", "circle-alert", what, text=text, tone="bad")
    return _entry(event, "mark", "square", "Ended its turn", text=text)


def _messages(payload: Mapping[str, Any]) -> str:
    """Return what came from the inbox, a paragraph each."""
    found = payload.get("messages")
    found = found if isinstance(found, list) else []
    return "\n\n".join(_message(message) for message in found if isinstance(message, Mapping))[:DETAIL_CHARS]


def _message(message: Mapping[str, Any]) -> str:
    data = message.get("data")
    body = data.get("body", data) if isinstance(data, Mapping) else data
    return f"{message.get('from', '?')}: {_plain(body)}"


def _tool_use(event: RunEvent, payload: Mapping[str, Any]) -> Entry:
    name = str(payload.get("name", "tool"))
    arguments = payload.get("input")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    if name.startswith(_VERB_PREFIX):
        verb = name.removeprefix(_VERB_PREFIX)
        icon, what, line = "radio-tower", verb.replace("_", " ").capitalize(), _first_words(arguments)
    else:
        icon, what, key = _TOOLS.get(name, ("wrench", name, ""))
        line = str(arguments.get(key, "")) if key else _first_words(arguments)
    detail = "" if set(arguments) <= {"command", "file_path", "pattern"} else _pretty(arguments)
    return _entry(event, "tool", icon, what, line=_one_line(line), detail=detail)


def _tool_result(event: RunEvent, payload: Mapping[str, Any]) -> Entry:
    text = _text(payload)
    failed = bool(payload.get("is_error"))
    lines = text.count("\n") + 1
    if failed:
        return _entry(event, "problem", "circle-x", "Failed", detail=text, tone="bad", is_open=True)
    return _entry(
        event,
        "result",
        "check",
        "",
        line=_one_line(text) or "(no output)",
        detail=text if lines > 1 or len(text) > LINE_CHARS else "",
    )


def _text(payload: Mapping[str, Any]) -> str:
    for key in ("text", "thinking", "content", "message", "result", "detail"):
        if key in payload:
            return _plain(payload[key])[:DETAIL_CHARS]
    return _pretty(payload)


def _plain(value: Any) -> str:
    """Return text from what the Messages API allows as content: text, or a list of blocks."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "\n".join(_plain(block.get("text", "")) if isinstance(block, Mapping) else str(block) for block in value)
    return _pretty(value)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)[:DETAIL_CHARS]


def _first_words(arguments: Mapping[str, Any]) -> str:
    return next((value for value in arguments.values() if isinstance(value, str) and value), "")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:LINE_CHARS]
