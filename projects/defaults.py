"""What happens with a decision that nobody takes until its deadline. docs/messages.md is this table.

A default never spends what was not granted, lets nothing out and gives nothing up, unless an admin chose so for the
project beforehand; money it never grants.
"""

from dataclasses import dataclass

from projects.models import Project
from projects.states import ApprovalKind

WAIT = ""
"""Nothing is decided: the decision is escalated, people are reminded, and what depends on it waits."""
SETTING = "without_answer"
"""The key of `Project.config` with what an admin chose: {kind: option, or WAIT}."""


LABELS = {
    WAIT: "It waits",
    "answer": "The recommended answers are taken",
    "approve": "It is approved",
    "retry": "The task is tried again, once",
}


@dataclass(frozen=True)
class Rule:
    """What a kind of decision does by itself at its deadline. `choices` are what an admin may choose for a project."""

    shipped: str
    choices: tuple[str, ...]
    why: str


RULES: dict[ApprovalKind, Rule] = {
    ApprovalKind.PLAN: Rule(
        WAIT, (WAIT, "approve"), "A plan decides what is built and what it costs: a person approves it."
    ),
    ApprovalKind.DEMO: Rule(
        WAIT, (WAIT, "approve"), "With an approved demo the building begins, and most of the money is spent then."
    ),
    ApprovalKind.QUESTION: Rule(
        "answer",
        ("answer", WAIT),
        "What the squad recommends, where it recommends something to each; a plan follows.",
    ),
    ApprovalKind.BLOCKED_TASK: Rule(
        WAIT, (WAIT, "retry"), "Trying again costs money within the budget. By itself it happens once for each task."
    ),
    ApprovalKind.BUDGET: Rule(WAIT, (WAIT,), "Money is granted by a person, always. Until then nothing more is spent."),
}


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| decision | without an answer | an admin may choose for a project | why |", "|---|---|---|---|"]
    for kind, rule in RULES.items():
        others = "; ".join(LABELS[option] for option in rule.choices if option != rule.shipped) or "nothing else"
        lines.append(f"| {kind.label} | {LABELS[rule.shipped]} | {others} | {rule.why} |")
    return "\n".join(lines) + "\n"


def without_answer(project: Project, kind: ApprovalKind) -> str:
    """Return the option that is taken at the deadline in this project, or WAIT."""
    rule = RULES[kind]
    chosen = project.config.get(SETTING, {}).get(kind.value, rule.shipped)
    return chosen if chosen in rule.choices else WAIT
