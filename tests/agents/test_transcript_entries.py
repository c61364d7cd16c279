"""How a line of a transcript is shown."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models import RunEvent
from agents.transcript import DETAIL_CHARS, LINE_CHARS, Entry, entry
from tests.factories import NOW


def shown(kind: str, payload: Any) -> Entry:
    return entry(RunEvent(seq=1, kind=kind, payload=payload, created_at=NOW))


@pytest.mark.parametrize(
    ("name", "arguments", "what", "line"),
    [
        ("Bash", {"command": "git status"}, "Ran", "git status"),
        ("Read", {"file_path": "app/pages.py"}, "Read", "app/pages.py"),
        ("Write", {"file_path": "a.py", "content": "x"}, "Wrote", "a.py"),
        ("Glob", {"pattern": "**/*.py"}, "Looked for", "**/*.py"),
        ("mcp__eklavya__report_progress", {"percent": 5, "message": "begun"}, "Report progress", "begun"),
        ("SomethingNew", {"query": "boats"}, "SomethingNew", "boats"),
    ],
)
def test_a_tool_is_shown_by_what_it_does(name: str, arguments: dict[str, Any], what: str, line: str) -> None:
    made = shown("tool_use", {"name": name, "input": arguments})

    assert (made.what, made.line) == (what, line)


def test_a_command_alone_needs_no_fold() -> None:
    assert shown("tool_use", {"name": "Bash", "input": {"command": "ls"}}).detail == ""


def test_a_long_result_is_folded_under_its_beginning() -> None:
    made = shown("tool_result", {"content": "one\ntwo\nthree"})

    assert (made.line, made.detail, made.is_open) == ("one two three", "one\ntwo\nthree", False)


def test_a_failure_is_open_and_red() -> None:
    made = shown("tool_result", {"content": "fatal: no such branch", "is_error": True})

    assert (made.what, made.tone, made.is_open) == ("Failed", "bad", True)


def test_the_start_names_program_and_model() -> None:
    made = shown("system", {"event": "started", "model": "claude-sonnet-4-5", "claude_code_version": "2.1.329"})

    assert made.line == "Claude Code 2.1.329 asks for claude-sonnet-4-5"


def test_the_end_says_what_went_wrong() -> None:
    made = shown("result", {"subtype": "error_max_turns", "is_error": True, "result": None})

    assert (made.what, made.tone) == ("Error max turns", "bad")


def test_messages_from_the_inbox_are_paragraphs() -> None:
    found = [{"from": "qa", "data": {"body": "Hi"}}, {"from": "pm", "data": {"body": "Ho"}}]

    made = shown("message", {"from": "inbox", "messages": found})

    assert made.text == "qa: Hi\n\npm: Ho"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "name", "input", "content", "messages", "result", "event", "model", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(RunEvent.Kind.values), anything)
def test_any_payload_becomes_text(kind: str, payload: Any) -> None:
    made = shown(kind, payload)

    for value in (made.what, made.line, made.text, made.detail):
        assert isinstance(value, str)
    assert len(made.line) <= LINE_CHARS
    assert len(made.detail) <= DETAIL_CHARS
