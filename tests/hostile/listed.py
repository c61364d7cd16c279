"""The attacks as docs/security-model.md lists them: `write()` writes them there."""

import re

from eklavya.env import BASE_DIR
from tests.hostile.attacks import ATTACKS
from tests.hostile.attacks.tools import TOOL_ATTACKS
from tests.hostile.shown import PAGES, PREVIEWS

PAGE = BASE_DIR / "docs" / "security-model.md"
CLASSES = {
    "Key theft": ("key",),
    "The environment and /proc": ("env", "proc"),
    "Metadata services": ("metadata",),
    "Services of the host, on every address of the bridge": ("host",),
    "Networks and files of other projects": ("neighbour",),
    "The Docker socket and kernel interfaces": ("docker", "kernel"),
    "Paths and symbolic links": ("path", "role"),
    "Git configuration, hooks and history": ("git", "hook", "dotgit"),
    "Fork, memory, disk and log bombs": ("bomb", "flood"),
    "Ways around the egress proxy": ("direct", "egress"),
    "Verbs of other roles, forged and expired tokens": ("mcp", "tool", "token", "old"),
    "Prompt injection": ("inject",),
    "Poisoned artefacts and archives": ("zip", "tree"),
    "Stored scripts in portal, admin and previews": ("script", "preview"),
    "Races for the budget": ("model", "budget"),
}


def everything() -> dict[str, str]:
    """What each attack is after, by its id."""
    found = {name: one.aim for name, one in ATTACKS.items()}
    found |= {one.id: one.aim for one in TOOL_ATTACKS}
    return found | {name: aim for name, (aim, _) in PAGES.items()} | PREVIEWS


def listed(heading: str) -> str:
    """The list below a heading."""
    lines = [f"* `{name}` {aim}" for name, aim in everything().items() if name.partition("-")[0] in CLASSES[heading]]
    return "\n".join(lines)


def with_lists(text: str) -> str:
    """The page with each list below its heading, in place of the one that is there."""
    for heading in CLASSES:
        title = f"### {heading}\n"
        before, _, after = text.partition(title)
        rest = re.sub(r"\A\n*(?:\* `.*\n)*\n*", "", after)
        text = f"{before}{title}\n{listed(heading)}\n\n{rest}"
    return text


def write() -> None:
    """Bring the page up to date."""
    PAGE.write_text(with_lists(PAGE.read_text()))
