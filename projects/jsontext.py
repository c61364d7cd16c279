"""Text and JSON from agents and clients, made storable.

PostgreSQL takes no NUL and no lone surrogate, its JSON no NaN and no infinity; and what nests deeper than any honest
value would exhaust the stack of whoever reads it.
"""

import math
from typing import Any

MAX_DEPTH = 100
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = dict.fromkeys([0, *range(0xD800, 0xE000)], _REPLACEMENT)


def storable_text(text: str, *, max_chars: int | None = None) -> str:
    """Return `text` with what PostgreSQL cannot store replaced, cut to `max_chars` with an ellipsis."""
    if not _is_storable(text):
        text = text.translate(_UNSTORABLE)
    if max_chars is not None and len(text) > max_chars:
        return text[: max_chars - 1] + "…"
    return text


def _is_storable(text: str) -> bool:
    """Whether PostgreSQL takes it as it is: nearly every text, so this must not look at each character in Python."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def storable_json(value: Any, *, max_chars: int | None = None) -> Any:
    """Return a copy of a JSON value whose every string (keys too) is storable and at most `max_chars` long.

    Numbers that are none become null, and what lies deeper than MAX_DEPTH an ellipsis.
    """
    return _storable(value, max_chars, MAX_DEPTH)


def _storable(value: Any, max_chars: int | None, depth: int) -> Any:
    match value:
        case str():
            return storable_text(value, max_chars=max_chars)
        case float():
            return value if math.isfinite(value) else None
        case dict() | list() | tuple() if depth == 0:
            return "…"
        case dict():
            return {
                storable_text(str(key), max_chars=max_chars): _storable(item, max_chars, depth - 1)
                for key, item in value.items()
            }
        case list() | tuple():
            return [_storable(item, max_chars, depth - 1) for item in value]
        case _:
            return value
