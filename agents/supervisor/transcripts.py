"""From the CLI's messages to the lines of a transcript."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    ResultMessage,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from agents.actions.transcript import Line
from agents.models import RunEvent

Kind = RunEvent.Kind


def lines_of(message: Message, at: datetime) -> Iterator[Line]:
    """Yield the lines that a message of the CLI makes in the transcript; some make none."""
    match message:
        case AssistantMessage(content=blocks) | UserMessage(content=list() as blocks):
            for block in blocks:
                if (content := _block(block)) is not None:
                    yield Line(*content, at)
        case SystemMessage(subtype="init", data=data):
            kept = {name: data.get(name) for name in ("model", "tools", "mcp_servers", "claude_code_version")}
            yield Line(Kind.SYSTEM, {"event": "started", **kept}, at)
        case ResultMessage():
            yield Line(Kind.RESULT, _result(message), at)
        case _:
            return


def _block(block: Any) -> tuple[RunEvent.Kind, dict[str, Any]] | None:
    match block:
        case TextBlock(text=text):
            return Kind.TEXT, {"text": text}
        case ThinkingBlock(thinking=text):
            return Kind.THINKING, {"text": text}
        case ToolUseBlock():
            return Kind.TOOL_USE, {"id": block.id, "name": block.name, "input": block.input}
        case ToolResultBlock():
            content = _flat(block.content)
            return Kind.TOOL_RESULT, {"id": block.tool_use_id, "content": content, "is_error": bool(block.is_error)}
        case _:
            return None


def _flat(content: Any) -> str:
    """Return a tool's result as text; a list of parts has one part per line."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", part.get("type", ""))) for part in content)
    return str(content or "")


def _result(message: ResultMessage) -> dict[str, Any]:
    return {
        "subtype": message.subtype,
        "is_error": message.is_error,
        "turns": message.num_turns,
        "duration_ms": message.duration_ms,
        "result": message.result,
        "api_error_status": message.api_error_status,
    }
