"""Cleaning what people and models wrote."""

from __future__ import annotations

import re
import unicodedata

MAX_ANALYSED = 20_000
_DIRECTIVE = re.compile(r"\[\[\s*rehearsal:[^\[\]]{0,200}\]\]", re.IGNORECASE)


def clean(text: str, *, limit: int = MAX_ANALYSED) -> str:
    """The text without directives to the rehearsal model, control characters and lone surrogates; shortened.

    White space is collapsed to single blanks and line breaks, which keeps the patterns above fast on any text.
    """
    text = _DIRECTIVE.sub(" ", text[: limit * 2])
    kept = "".join(
        character if character == "\n" or unicodedata.category(character)[0] != "C" else " " for character in text
    )
    lines = (" ".join(line.split()) for line in unicodedata.normalize("NFC", kept).splitlines())
    return "\n".join(line for line in lines if line)[:limit].strip()


def one_line(text: str, limit: int) -> str:
    """Cleaned text on one line, cut at a word when it is too long."""
    text = " ".join(clean(text).split())
    if len(text) <= limit:
        return text
    return text[: limit - 1].rsplit(" ", 1)[0][: limit - 1] + "…"
