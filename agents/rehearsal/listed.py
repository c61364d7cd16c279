"""What a brief lists after a colon: "orders for cakes: customer, cake, pick-up date, paid or not"."""

from __future__ import annotations

import re
from typing import NamedTuple

from .fields import MAX_FIELDS, EntitySpec, FieldSpec, add_field, field_of
from .lexicon import FIELD_KINDS, STOPWORDS
from .names import singular_of
from .nouns import NOUNS, known_noun

# Bounded, so that no text makes them slow.
_LIST = re.compile(r"([^.;:\n!?]{3,120}):[ \n]([^.;:\n!?]{3,240})")
_SPLIT = re.compile(r",|/|&|\+|\band\b", re.IGNORECASE)
_OR_NOT = re.compile(r"\s+(?:or not|yes or no)$", re.IGNORECASE)
_LEAD = re.compile(r"^(?:(?:an?|the|its|their|his|her|our|my|each|every|some|whether|if|it is)\s+)+", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 -]{0,29}")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_FEWEST = 3
_MOST = 12
_TITLES = frozenset({"name", "title", "subject", "reason", "description", "reference"})

CONTAINERS = frozenset(
    {
        *("app", "application", "board", "box", "calendar", "catalog", "catalogue", "database", "diary", "directory"),
        *("inventory", "list", "log", "overview", "page", "planner", "portal", "record", "records", "register"),
        *("site", "system", "table", "tool", "tracker", "website"),
    }
)
"""What holds records, and is none of them."""


class Part(NamedTuple):
    """One thing that is listed. `is_flag` says that it is so or not."""

    name: str
    is_flag: bool = False


class Listed(NamedTuple):
    """A list: the singular of what it describes, if that is known, its parts, and where they stand in the text."""

    owner: str | None
    parts: tuple[Part, ...]
    span: tuple[int, int]


def lists_in(text: str) -> list[Listed]:
    """Return the lists of a cleaned text."""
    found = []
    for match in _LIST.finditer(text):
        parts = tuple(part for piece in _SPLIT.split(match[2])[:_MOST] if (part := _part(piece)))
        if len(parts) >= _FEWEST and not _are_things(parts):
            found.append(Listed(_owner(match[1], parts), parts, match.span(2)))
    return found


def _are_things(parts: tuple[Part, ...]) -> bool:
    """Whether records are listed rather than their fields: "manage bikes, customers and rentals"."""
    last = [part.name.casefold().split()[-1] for part in parts]
    return all(singular_of(word) != word and known_noun(word) for word in last)


def _part(piece: str) -> Part | None:
    name = " ".join(piece.split())
    flag = _OR_NOT.search(name)
    name = _LEAD.sub("", name[: flag.start()] if flag else name)
    return Part(name, bool(flag)) if len(name.split()) <= 3 and _PLAIN.fullmatch(name) else None


def _owner(clause: str, parts: tuple[Part, ...]) -> str | None:
    """The last thing that the clause names, unless it holds the records or is listed itself.

    Where there is none it may be the first thing listed: "a tap list: beer, style, strength".
    """
    words = [word.casefold() for word in _WORD.findall(clause)]
    listed = {singular_of(part.name.casefold().split()[-1]) for part in parts}
    for position in range(len(words) - 1, -1, -1):
        word, one = words[position], singular_of(words[position])
        if word in CONTAINERS or one in listed or not word.isascii():
            continue
        # A plural that follows a word for people or a trade is a verb: "our brewery needs".
        is_thing = one != word and (position == len(words) - 1 or words[position + 1] in STOPWORDS - {"a", "an"})
        if known_noun(word) or is_thing:
            before = words[position - 1] if position else ""
            own = before and before.isascii() and before not in STOPWORDS | CONTAINERS and not before.endswith("s")
            return f"{before} {one}" if own and known_noun(word) is None else one
    first = parts[0].name.casefold()
    return None if first in FIELD_KINDS or first in _TITLES else singular_of(first)


def without_lists(text: str, lists: list[Listed]) -> str:
    """The text with only the people left of what it lists: of an order's customer there is more to know."""
    for listed in reversed(lists):
        people = [part.name for part in listed.parts if _is_person(part.name)]
        begin, end = listed.span
        text = f"{text[:begin]}{', '.join(people)}{text[end:]}"
    return text


def _is_person(name: str) -> bool:
    known = known_noun(name)
    return known is not None and NOUNS[known].sort == "person"


def fill_listed(entities: list[EntitySpec], lists: list[Listed]) -> None:
    """Give each entity that the brief describes in a list just what is listed, and a title."""
    people = {entity.singular.casefold(): entity for entity in entities if entity.sort == "person"}
    for listed in lists:
        entity = _described(listed, entities)
        usual = entity.fields[0]
        entity.fields = []
        for part in listed.parts:
            target = people.get(singular_of(part.name.casefold()))
            if part.name.casefold() != listed.owner and target is not entity:
                add_field(entity, _reference(target) if target else _field(part))
        _put_title_first(entity, usual)


def _described(listed: Listed, entities: list[EntitySpec]) -> EntitySpec:
    named = {part.name.casefold() for part in listed.parts}
    of_that_name = (entity for entity in entities if entity.singular.casefold() == listed.owner)
    not_listed = (entity for entity in entities if entity.singular.casefold() not in named)
    return next(of_that_name, None) or next(not_listed, None) or entities[0]


def _put_title_first(entity: EntitySpec, usual: FieldSpec) -> None:
    """The first field is the title: one that was listed, or else the usual one of such records."""
    title = next((one for one in entity.fields if one.key in _TITLES and one.kind == "text"), None)
    refers = any(one.kind == "ref" for one in entity.fields)
    title = title or (FieldSpec("title", "Title") if refers and entity.noun is None else usual)
    title.required = True
    rest = [one for one in entity.fields if one.key != title.key and one.label != title.label]
    entity.fields = [title, *rest[: MAX_FIELDS - 1]]


def _reference(target: EntitySpec) -> FieldSpec:
    return FieldSpec(target.key, target.singular, "ref", True, target=target.key)


def _field(part: Part) -> FieldSpec:
    made = field_of(part.name)
    if part.is_flag:
        made.kind, made.choices = "flag", ()
    elif part.name.casefold() in {"from", "until"}:
        made.kind = "date"
    return made
