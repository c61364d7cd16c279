"""The shipped prompts: complete, within their size, and true about what each role may use."""

import re

import pytest

from agents.roles import ROLES, tools_of
from learning.shipped import shipped_prompt
from projects.roles import Role


def words_of_tools(text: str) -> str:
    """The section that lists the tools."""
    return text.split("## Tools")[1].split("\n## ")[0]


@pytest.mark.parametrize("role", Role)
def test_prompt_has_a_readable_size(role: Role) -> None:
    lines = shipped_prompt(role).splitlines()
    assert 25 <= len(lines) <= 60
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("role", Role)
def test_prompt_names_exactly_the_verbs_of_its_role(role: Role) -> None:
    named = set(re.findall(r"mcp__eklavya__(\w+)", shipped_prompt(role)))
    assert named == ROLES[role].verbs


@pytest.mark.parametrize("role", Role)
def test_prompt_names_exactly_the_built_in_tools_of_its_role(role: Role) -> None:
    tools = set(
        re.findall(
            r"\b(Bash|Read|Write|Edit|Glob|Grep|Agent|WebFetch|WebSearch)\b", words_of_tools(shipped_prompt(role))
        )
    )
    assert tools == set(tools_of(ROLES[role]).offered)


@pytest.mark.parametrize("role", Role)
def test_prompt_says_what_every_agent_must_know(role: Role) -> None:
    text = " ".join(shipped_prompt(role).split())
    assert "<task-context>" in text
    assert "eklavya.toml" in text
    assert re.search(r"\b(is|are) data\b", text), "what others wrote is data, not instructions"
    assert "`resume`" in text, "work that was saved is gone on with"
    assert "`failure`" in text, "why the last attempt was refused"
    assert "end your turn" in text
    assert "## Never" in text
