"""Conditions on edges: expressions of CEL, the Common Expression Language, over what a node led to.

    result.verdict == 'approved' && result.tests.failed == 0

An expression sees `result` (what the node returned), `status` and nothing else. It has no loops: CEL's macros (`all`,
`exists`, `map`, `filter`) are refused, and so is `+`, which they are built of and which makes values grow. What is left
takes at most a step per operator and per item of a list, so that every condition ends. One that cannot be decided (a
missing field, a comparison of a number with a text) raises; it is never taken for false.
"""

from functools import lru_cache
from typing import Any

from projects.errors import DomainError

MAX_CHARS = 500
MAX_DEPTH = 30
NAMES = frozenset({"result", "status"})
_OPERATORS = frozenset(
    ["_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_&&_", "_||_", "!_", "_?_:_", "_[_]", "@in", "_-_", "-_"]
)
_FUNCTIONS = frozenset({"size", "contains", "startsWith", "endsWith"})


class InvalidCondition(DomainError):
    """This condition cannot be used."""


class UndecidedCondition(DomainError):
    """This condition could not be decided on what the node returned."""


def check_condition(text: str) -> None:
    """Raise InvalidCondition unless `text` is an expression that `is_met` can decide."""
    _compiled(text)


def is_met(text: str, result: Any, *, status: str) -> bool:
    """Decide a condition. Raises UndecidedCondition when it has no answer, InvalidCondition when it is no condition."""
    program = _compiled(text)
    try:
        found = program.execute({"result": result, "status": status})
    except Exception as error:  # the library raises whatever Python's own operators would
        raise UndecidedCondition(
            f"“{text}” could not be decided: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if not isinstance(found, bool):
        raise UndecidedCondition(f"“{text}” is neither true nor false: it is a {type(found).__name__}.")
    return found


@lru_cache(maxsize=4096)
def _compiled(text: str) -> Any:
    import cel  # noqa: PLC0415  # it loads a command line of its own; most processes never see a condition

    if len(text) > MAX_CHARS:
        raise InvalidCondition(f"The condition has {len(text):,} characters; at most {MAX_CHARS} are allowed.")
    # The parser descends once per level: what nests without end would end the process.
    if _depth(text) > MAX_DEPTH:
        raise InvalidCondition(f"The condition “{text[:60]}…” nests too deep; at most {MAX_DEPTH} levels are allowed.")
    try:
        program = cel.compile(text)
    except Exception as error:
        raise InvalidCondition(f"“{text}” is no expression: {str(error).splitlines()[0][:200]}") from error
    if unknown := set(program.variables()) - NAMES:
        raise InvalidCondition(f"“{text}” names “{min(unknown)}”; only result and status are known, and no macros.")
    if refused := set(program.functions()) - _OPERATORS - _FUNCTIONS:
        known = ", ".join(sorted(_FUNCTIONS))
        raise InvalidCondition(f"“{text}” uses {min(refused)}; besides comparisons and logic only {known} may be used.")
    return program


def _depth(text: str) -> int:
    """Return an upper bound of how deep an expression nests: brackets, signs in a row, and choices within choices."""
    deepest = level = signs = 0
    for char in text.replace(" ", ""):
        level += (char in "([{") - (char in ")]}")
        signs = signs + 1 if char in "!-" else 0
        deepest = max(deepest, level + signs)
    return deepest + text.count("?")
