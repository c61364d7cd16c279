"""Text and JSON from agents and clients, made storable. PostgreSQL takes no NUL and no lone surrogate."""

from typing import Any

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = dict.fromkeys([0, *range(0xD800, 0xE000)], _REPLACEMENT)


def storable_text(text: str, *, max_chars: int | None = None) -> str:
    """Return `text` with what PostgreSQL cannot store replaced, cut to `max_chars` with an ellipsis."""
    text = text.translate(_UNSTORABLE)
    if max_chars is not None and len(text) > max_chars:
        return text[: max_chars - 1] + "…"
    return text


def storable_json(value: Any, *, max_chars: int | None = None) -> Any:
    """Return a copy of a JSON value whose every string (keys too) is storable and at most `max_chars` long."""
    match value:
        case str():
            return storable_text(value, max_chars=max_chars)
        case dict():
            return {storable_text(str(key)): storable_json(item, max_chars=max_chars) for key, item in value.items()}
        case list() | tuple():
            return [storable_json(item, max_chars=max_chars) for item in value]
        case _:
            return value
