"""The records of an application to be built, and their fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .lexicon import FIELD_KINDS
from .names import RESERVED_FIELDS, identifier, singular_of
from .texts import one_line

MAX_FIELDS = 10


@dataclass
class FieldSpec:
    """A field to generate; `kind` and the rest mean what they mean in the generated application."""

    key: str
    label: str
    kind: str = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    target: str = ""


@dataclass
class EntitySpec:
    """An entity to generate. `noun` is its entry in the lexicon, if it has one."""

    key: str
    path: str
    singular: str
    plural: str
    noun: str | None
    sort: str
    fields: list[FieldSpec] = field(default_factory=list)


def fields_in(text: str) -> list[FieldSpec]:
    """Fields in the lexicon's notation."""
    fields = []
    for part in text.split():
        name, _, choices = part.lstrip("!").partition("=")
        name, _, kind = name.partition(":")
        options = tuple(choices.replace("_", " ").split("|")) if choices else ()
        fields.append(FieldSpec(name, _label(name), "choice" if options else kind or "text", part[0] == "!", options))
    return fields


def _label(key: str) -> str:
    return key.replace("_", " ").capitalize()


def field_of(name: str) -> FieldSpec:
    """A field from what a person calls it: "due date" is a date, "price per day" money."""
    label = one_line(name, 30)
    words = [word.casefold() for word in re.findall(r"[\w-]+", label)]
    guesses = [
        FIELD_KINDS[word] for word in [*reversed(words), *(singular_of(word) for word in words)] if word in FIELD_KINDS
    ]
    kind = guesses[0] if guesses else "text"
    choices = tuple(kind[1:].split("|")) if kind.startswith("=") else ()
    key = identifier(label, "field")
    return FieldSpec(key, label[:1].upper() + label[1:], "choice" if choices else kind, choices=choices)


def add_field(entity: EntitySpec, wanted: FieldSpec, *, first: bool = False) -> bool:
    """Add a field, right after the title if `first`, unless the entity is full or has it already."""
    present = {item.key for item in entity.fields}
    if wanted.key in RESERVED_FIELDS:
        wanted.key = f"{wanted.key}_value"
    if wanted.key in present or wanted.label.casefold() in {item.label.casefold() for item in entity.fields}:
        return False
    if len(entity.fields) >= MAX_FIELDS:
        return False
    entity.fields.insert(1 if first else len(entity.fields), wanted)
    return True
