"""What a client's feedback on a demo changes in the application."""

from __future__ import annotations

import re

from .brief import MAX_NAME, AppSpec
from .fields import EntitySpec, FieldSpec, add_field, field_of
from .lexicon import HUES, REPORT_WORDS, STOPWORDS
from .texts import clean, one_line

MAX_CHANGE = 160
_RENAME = re.compile(
    r"\b(?:rename (?:it|the app(?:lication)?)?\s*(?:to|as)?|call it|(?:change|set) the (?:title|name|heading) to"
    r"|(?:title|name) should be)\s*[\"“'‘«]?([^\"”'’»\n.,;:!?]{1,60})",
    re.IGNORECASE,
)
_ADD = re.compile(
    r"\b(?:add|include|show|need|want|missing|with|store|record)\s+(?:also\s+)?(?:a|an|the|another)?\s*(?:new\s+)?(?:field|column)?\s*"
    r"(?:for|called|named)?\s*(?:the|a|an)?\s*[\"“'‘]?([A-Za-z][A-Za-z -]{1,28}?)[\"”'’]?\s*(?:field|column)?"
    r"(?=\s+(?:to|for|of|on|in|per)\b|\s+(?:field|column)|\s*(?:[.,;!?\n]|and\b|$))(?:\s+(?:field|column))?"
    r"(?:\s+(?:to|for|of|on|in|per)\s+(?:each|every|the|a|an|all)?\s*([A-Za-z-]{3,24}))?",
    re.IGNORECASE,
)
_REMOVE = re.compile(
    r"\b(?:remove|drop|delete|without|hide)\s+(?:the\s+)?[\"“'‘]?([A-Za-z][A-Za-z -]{1,28}?)[\"”'’]?"
    r"(?=\s+(?:field|column|from|of)\b|\s*(?:[.,;!?\n]|and\b|$))",
    re.IGNORECASE,
)


def apply(spec: AppSpec, text: str) -> None:
    """Change the description as the text asks, and note the wish itself so that it shows on the overview."""
    text = clean(text, limit=4000)
    match = _RENAME.search(text)
    if match and (name := one_line(match[1], MAX_NAME)):
        spec.name = name
    for word in re.findall(r"[a-z]+", text.casefold()):
        if word in HUES:
            spec.hue = HUES[word]
    _remove_fields(spec, text)
    _add_fields(spec, text)
    spec.wants_report = spec.wants_report or bool(set(re.findall(r"[a-z]+", text.casefold())) & REPORT_WORDS)
    note = one_line(text, MAX_CHANGE)
    if note:
        spec.changes.append(note)


def _entity(spec: AppSpec, name: str) -> EntitySpec | None:
    stem = name.casefold().removesuffix("s")
    return next((entity for entity in spec.entities if stem and stem in entity.singular.casefold()), None)


def _add_fields(spec: AppSpec, text: str) -> None:
    for match in _ADD.finditer(text):
        name = " ".join(match[1].split())
        words = name.casefold().split()
        if not words or len(words) > 3 or any(word in STOPWORDS | HUES.keys() | REPORT_WORDS for word in words):
            continue
        if _entity(spec, words[-1]) is None:
            add_field(_entity(spec, match[2] or "") or spec.entities[0], field_of(name), first=True)


def _remove_fields(spec: AppSpec, text: str) -> None:
    for match in _REMOVE.finditer(text):
        wanted = " ".join(match[1].split()).casefold()
        for entity in spec.entities:
            # The title stays, and so do references: records could no longer be told apart or found.
            entity.fields[1:] = [item for item in entity.fields[1:] if not _is_called(item, wanted)]


def _is_called(item: FieldSpec, wanted: str) -> bool:
    return item.kind != "ref" and wanted in {item.label.casefold(), item.key}
