"""The prompts that come with the product: one Markdown file per role. No database."""

from pathlib import Path

from projects.roles import Role

_DIRECTORY = Path(__file__).parent / "prompts"


def shipped_prompt(role: Role) -> str:
    """Return the shipped text of a role's system prompt."""
    return (_DIRECTORY / f"{role.value}.md").read_text(encoding="utf-8").strip()
