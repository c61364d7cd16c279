from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    Message,
    ResultMessage,
    ServerToolUseBlock,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from agents.supervisor.transcripts import lines_of
from tests.factories import NOW

RESULT = ResultMessage(
    subtype="success",
    duration_ms=1200,
    duration_api_ms=1000,
    is_error=False,
    num_turns=3,
    session_id="s",
    result="Done.",
)


def seen(message: Message) -> list[tuple[str, dict[str, Any]]]:
    lines = list(lines_of(message, NOW))
    assert all(line.at == NOW for line in lines)
    return [(line.kind.value, line.payload) for line in lines]


def test_the_agents_words_thoughts_and_calls_keep_their_order() -> None:
    blocks = [ThinkingBlock("hm", "signature"), TextBlock("I look."), ToolUseBlock("t1", "Read", {"file_path": "a"})]

    assert seen(AssistantMessage(blocks, model="m")) == [
        ("thinking", {"text": "hm"}),
        ("text", {"text": "I look."}),
        ("tool_use", {"id": "t1", "name": "Read", "input": {"file_path": "a"}}),
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "image", "source": {}}], "image"),
    ],
)
def test_tool_results_are_text(content: Any, text: str) -> None:
    message = UserMessage([ToolResultBlock("t1", content, is_error=None)])

    assert seen(message) == [("tool_result", {"id": "t1", "content": text, "is_error": False})]


def test_a_failed_tool_says_so() -> None:
    ((_, payload),) = seen(UserMessage([ToolResultBlock("t1", "no such file", is_error=True)]))

    assert payload["is_error"] is True


def test_the_start_tells_what_the_cli_was_given() -> None:
    data = {"model": "m", "tools": ["Read"], "mcp_servers": [], "claude_code_version": "2", "apiKeySource": "x"}

    assert seen(SystemMessage("init", data)) == [
        (
            "system",
            {"event": "started", "model": "m", "tools": ["Read"], "mcp_servers": [], "claude_code_version": "2"},
        )
    ]


def test_the_result_tells_how_it_ended() -> None:
    ((kind, payload),) = seen(RESULT)

    assert (kind, payload["subtype"], payload["turns"], payload["result"]) == ("result", "success", 3, "Done.")


@pytest.mark.parametrize(
    "message",
    [
        UserMessage("our own words"),
        SystemMessage("status", {}),
        StreamEvent("u", "s", {"type": "message_start"}),
        AssistantMessage([], model="m"),
        AssistantMessage([ServerToolUseBlock("s1", "web_search", {})], model="m"),
    ],
)
def test_other_messages_make_no_line(message: Message) -> None:
    assert seen(message) == []
