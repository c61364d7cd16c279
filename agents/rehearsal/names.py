"""Names for code made from people's words: always ASCII, never a keyword, never twice."""

from __future__ import annotations

import keyword
import re
import unicodedata

RESERVED_PATHS = frozenset({"static", "report", "calendar", "new", "export", "changes"})
RESERVED_FIELDS = frozenset({"id", "q", "is", "order", "page", "done", "rowid"})
_IRREGULAR = {
    "movies": "movie",
    "cookies": "cookie",
    "calories": "calorie",
    "people": "person",
    "children": "child",
    "men": "man",
    "women": "woman",
    "mice": "mouse",
    "feet": "foot",
}
_UNCHANGED = frozenset(
    {"series", "species", "news", "equipment", "staff", "status", "class", "address", "boss", "bus", "glass"}
)


def identifier(text: str, fallback: str) -> str:
    """A lower-case ASCII identifier of at most 30 characters for any text."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:30].strip("_")
    if not name or not name[0].isalpha():
        name = fallback
    return f"{name}_" if keyword.iskeyword(name) or keyword.issoftkeyword(name) else name


def unique(name: str, taken: set[str], *, joint: str = "_") -> str:
    """The name, with a number if it is taken or reserved; it is taken afterwards."""
    candidate, number = name, 2
    while candidate in taken:
        candidate = f"{name}{joint}{number}"
        number += 1
    taken.add(candidate)
    return candidate


def singular_of(word: str) -> str:
    """The singular of an English noun in lower case; other words come back as they are."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _UNCHANGED or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + ("y" if len(word) > 5 else "ie")
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1]


def plural_of(label: str) -> str:
    """The plural of a noun that is to be shown; a word of another script is left alone."""
    if not label.isascii():
        return label
    lower = label.lower()
    if lower.endswith(("s", "x", "ch", "sh")):
        return label if lower in {"series", "species", "news", "status"} else f"{label}es"
    if lower.endswith("y") and lower[-2:-1] not in "aeiou":
        return f"{label[:-1]}ies"
    if lower in {"equipment", "staff", "stock"}:
        return label
    return f"{label[:-6]}People" if lower == "person" else f"{label}s"
