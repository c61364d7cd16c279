"""The parts of all roles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..context import Context
from . import architect, developer, faults, mentor, operations, pm, review, tester
from .engine import Call, Results, Script, run, with_trouble
from .results import returning

_BY_ROLE_AND_KIND: dict[tuple[str, str], Callable[[Context], Script]] = {
    ("pm", "requirements"): pm.requirements,
    ("pm", "build"): pm.document,
    ("architect", "plan"): architect.plan,
    ("architect", "build"): pm.document,
    ("developer", "demo"): developer.demo,
    ("developer", "build"): developer.build,
    ("developer", "conflict"): developer.resolve,
    ("sre", "conflict"): developer.resolve,
    ("tester", "build"): tester.build,
    ("qa", "build"): review.qa,
    ("uat", "build"): review.uat,
    ("sre", "build"): operations.sre,
    ("monitor", "build"): operations.monitor,
    ("orchestrator", "build"): operations.orchestrator,
    ("mentor", "mentor"): mentor.answer,
}


def script_for(context: Context) -> Script:
    """The script of a run. A custom role, or an odd pair of role and kind, gets the nearest one."""
    script = _BY_ROLE_AND_KIND.get((context.role, context.kind))
    if script is None and context.kind == "conflict":
        # Without a shell: what the role writes for the task takes the place of what is marked.
        key, title = context.resolves
        context = replace(context, kind="build", key=key, title=title)
        script = _BY_ROLE_AND_KIND.get((context.role, "build"), developer.resolve)
    if script is None:
        by_kind = {
            "requirements": pm.requirements,
            "plan": architect.plan,
            "demo": developer.demo,
            "mentor": mentor.answer,
        }
        script = by_kind.get(context.kind) or _BY_ROLE_AND_KIND.get((context.role, "build"), developer.build)
    return returning(context, faults.wrap(context, with_trouble(script(context))))


def play(context: Context, turns: list[Results], offered: set[str]) -> tuple[str, list[Call]]:
    """What the role says next and the tools it calls."""
    return run(script_for(context), turns, offered)
