"""What a run was told (the <task-context> block) and what has happened in its conversation so far."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from .wire import JSON, blocks_of

_BLOCK = re.compile(r"<task-context>\s*(\{.*?\})\s*</task-context>", re.DOTALL)


@dataclass(frozen=True)
class ToolResult:
    """What came back from one tool call. `skipped`: the tool was not offered, so nothing was called."""

    text: str = ""
    is_error: bool = False
    skipped: bool = False


@dataclass(frozen=True)
class Requirement:
    """A requirement as the task's context states it."""

    key: str
    title: str
    body: str
    acceptance_criteria: list[str]


@dataclass(frozen=True)
class Context:
    """The task of a run. Whatever the block lacks or has in another shape is empty here.

    `conflict` are the paths that conflict, `resolves` key and title of the task whose change it is.
    """

    run: str
    role: str
    kind: str
    attempt: int
    project: str
    client: str
    brief: str
    key: str
    title: str
    description: str
    acceptance_criteria: list[str]
    questions: list[tuple[str, str]] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    corrections: list[str] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    mentor: list[tuple[str, str]] = field(default_factory=list)
    conflict: list[str] | None = None
    resolves: tuple[str, str] = ("", "")
    failure: str | None = None
    mentor_question: str | None = None
    decides: list[str] = field(default_factory=list)
    """The conditions that are decided on what a step returns."""


def find_context(body: JSON) -> Context | None:
    """The context of the first user message that carries one; None for a request that is not a run's."""
    for message in body["messages"]:
        if message["role"] != "user":
            continue
        for block in blocks_of(message):
            match = _BLOCK.search(block.get("text") or "") if block.get("type") == "text" else None
            if match:
                return _parse(match[1])
    return None


def turns(body: JSON) -> list[list[ToolResult]]:
    """The results of each assistant turn that called tools, in the order of the calls."""
    results: dict[str, ToolResult] = {}
    for message in body["messages"]:
        for block in blocks_of(message):
            if block.get("type") == "tool_result":
                text = _text(block.get("content"))
                results[str(block.get("tool_use_id"))] = ToolResult(text, bool(block.get("is_error")))
    found = []
    for message in body["messages"]:
        if message["role"] == "assistant":
            uses = [str(block.get("id")) for block in blocks_of(message) if block.get("type") == "tool_use"]
            found.append([results.get(use, ToolResult(is_error=True)) for use in uses])
    return [turn for turn in found if turn]


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return str(content or "")


def _parse(text: str) -> Context | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    project, task = _dict(data.get("project")), _dict(data.get("task"))
    failure, conflict, question = (data.get(name) for name in ("failure", "conflict", "mentor_question"))
    resolves = _dict(_dict(conflict).get("task"))
    attempt = data.get("attempt")
    return Context(
        run=_str(data.get("run")),
        role=_str(data.get("role")),
        kind=_str(data.get("kind")),
        attempt=attempt if isinstance(attempt, int) else 1,
        project=_str(project.get("name")),
        client=_str(project.get("client")),
        brief=_str(project.get("brief")),
        key=_str(task.get("key")),
        title=_str(task.get("title")),
        description=_str(task.get("description")),
        acceptance_criteria=_strings(task.get("acceptance_criteria")),
        questions=_pairs(data.get("questions"), "question", "answer"),
        requirements=_requirements(data.get("requirements")),
        plan=[_str(item.get("key")) for item in _dicts(_dict(data.get("plan")).get("tasks"))],
        corrections=_strings(data.get("corrections")),
        feedback=[text for _, text in _pairs(data.get("feedback"), "demo", "text")],
        mentor=_pairs(data.get("mentor"), "question", "reply"),
        conflict=_strings(_dict(conflict).get("paths")) if conflict else None,
        resolves=(_str(resolves.get("key")), _str(resolves.get("title"))),
        failure=f"{_str(_dict(failure).get('reason'))}: {_str(_dict(failure).get('detail'))}" if failure else None,
        decides=_strings(_dict(data.get("workflow")).get("decides")),
        mentor_question=_str(_dict(question).get("question")) if question else None,
    )


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _pairs(value: object, first: str, second: str) -> list[tuple[str, str]]:
    return [(_str(item.get(first)), _str(item.get(second))) for item in _dicts(value)]


def _requirements(value: object) -> list[Requirement]:
    return [
        Requirement(
            _str(item.get("key")),
            _str(item.get("title")),
            _str(item.get("body")),
            _strings(item.get("acceptance_criteria")),
        )
        for item in _dicts(value)
    ]
