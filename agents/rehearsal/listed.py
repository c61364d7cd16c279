"""What a brief lists after a colon: "orders for cakes: customer, cake, pick-up date, paid or not"."""

from __future__ import annotations

import re
from typing import NamedTuple

from .fields import MAX_FIELDS, EntitySpec, FieldSpec, add_field, field_of
from .lexicon import CALENDAR_WORDS, FIELD_KINDS, OUT_OF_SCOPE, REPORT_WORDS, STOPWORDS
from .names import singular_of
from .nouns import NOUNS, known_noun

# Bounded, so that no text makes them slow. What is described, how that is said, and where the list begins.
_OPENING = re.compile(
    r"([^.;:\n!?(),]{3,120}?)"
    r"(?:(:)[ \n]|\s?(\()|\s(?:with|has|have|having|includ(?:es?|ing)|consists? of|contains?)\s)",
    re.IGNORECASE,
)
_END = re.compile(r"[.;:\n!?()]|$")
_SPLIT = re.compile(r",(?:\s*(?:and|or)\b)?|/|&|\+|\b(?:and|plus|as well as)\b|\bor\b(?! not)", re.IGNORECASE)
_OR_NOT = re.compile(r"\s+(?:or not|yes or no)$", re.IGNORECASE)
_LEAD = re.compile(
    r"^(?:(?:an?|the|its|their|his|her|our|my|each|every|some|whether|if|it is|own|optional)\s+)+", re.IGNORECASE
)
_EACH = frozenset({"each", "every", "an", "a", "per"})
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 -]{0,29}")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_STATE = re.compile(r"(?:\w\wed|\bsold|\bpaid|\bout)$", re.IGNORECASE)
_MOST = 12
_LONGEST = 240
_TITLES = frozenset({"name", "title", "subject", "reason", "description", "reference"})
_NO_FIELD = (
    (STOPWORDS - {"name", "time", "place", "from", "until", "on", "out"})
    | REPORT_WORDS
    | CALENDAR_WORDS
    | set(OUT_OF_SCOPE)
)

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
    """Return the lists of a cleaned text, in its order."""
    found = []
    position = 0
    while match := _OPENING.search(text, position):
        begin = position = match.end()
        parts, end = _parts(text, begin)
        of_itself = bool(match[2] or match[3])  # after a colon, or in brackets
        owner = _owner(match[1], parts, adjoins=not of_itself)
        if len(parts) < (3 if of_itself else 1) or _are_things(parts) or not (owner or of_itself):
            continue
        found.append(Listed(owner, parts, (begin, end)))
        position = end
    return found


def _parts(text: str, begin: int) -> tuple[tuple[Part, ...], int]:
    """The parts from here to the end of the sentence, or to where something else begins; and where they end."""
    stop = _END.search(text, begin, begin + _LONGEST)
    line = text[begin : stop.start() if stop else begin + _LONGEST]
    parts: list[Part] = []
    position = 0
    while position < len(line) and len(parts) < _MOST:
        split = _SPLIT.search(line, position)
        piece = line[position : split.start() if split else len(line)]
        if piece.strip():
            if (part := _part(piece)) is None:
                break
            parts.append(part)
        position = split.end() if split else len(line)
    return tuple(parts), begin + min(position, len(line))


def _are_things(parts: tuple[Part, ...]) -> bool:
    """Whether records are listed rather than their fields: "manage bikes, customers and rentals"."""
    last = parts[0].name.casefold().split()[-1]
    return singular_of(last) != last and known_noun(last) is not None


def _part(piece: str) -> Part | None:
    name = " ".join(piece.split())
    flag = _OR_NOT.search(name)
    name = _LEAD.sub("", name[: flag.start()] if flag else name)
    words = name.casefold().split()
    if not 1 <= len(words) <= 3 or not _PLAIN.fullmatch(name) or any(word in _NO_FIELD for word in words[:-1]):
        return None
    return None if words[-1] in _NO_FIELD else Part(name, bool(flag))


def _owner(clause: str, parts: tuple[Part, ...], *, adjoins: bool) -> str | None:
    """The last thing that the clause names, unless it holds the records or is listed itself.

    Where there is none it may be the first thing listed: "a tap list: beer, style, strength". One that only `adjoins`
    the list must be its last word, and a thing of which there are several.
    """
    words = [word.casefold() for word in _WORD.findall(clause)]
    listed = {singular_of(part.name.casefold().split()[-1]) for part in parts}
    first_position = max(0, len(words) - 1) if adjoins else 0
    for position in range(len(words) - 1, first_position - 1, -1):
        if singular_of(words[position]) not in listed and (found := _thing(words, position, adjoins=adjoins)):
            return found
    return None if adjoins or not parts else _thing_of_list(words, parts[0].name.casefold())


def _thing(words: list[str], position: int, *, adjoins: bool) -> str | None:
    """What is named here, in the singular, with what qualifies it: "club member"."""
    word, one = words[position], singular_of(words[position])
    before = words[position - 1] if position else ""
    if not word.isascii() or _is_common(word, before):
        return None
    # A plural in the middle may be a verb: "our brewery needs".
    is_plural = one != word and (position == len(words) - 1 or words[position + 1] in STOPWORDS - {"a", "an"})
    if not (known_noun(word) or is_plural or (adjoins and before in _EACH - {"a", "an"})):
        return None
    return f"{before} {one}" if known_noun(word) is None and not adjoins and _qualifies(before) else one


def _is_common(word: str, before: str) -> bool:
    """Whether the word names no records of its own, after the word `before` it."""
    if word in CONTAINERS and before not in {"each", "every"}:
        return True
    return (word in STOPWORDS and before not in {"its", "our", "their", "my"}) or word in FIELD_KINDS


def _qualifies(word: str) -> bool:
    return word.isascii() and word not in {"", *STOPWORDS, *CONTAINERS, *_EACH} and not word.endswith("s")


def _thing_of_list(words: list[str], first: str) -> str | None:
    if first not in FIELD_KINDS and first not in _TITLES:
        return singular_of(first)
    # "A tap list": what is said of the list.
    of_list = words[-2] if len(words) > 1 and words[-1] in CONTAINERS else ""
    return None if of_list in {"", *STOPWORDS, *CONTAINERS, *FIELD_KINDS} else singular_of(of_list)


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
    """Give each entity that the brief describes what is listed, and a title; a single thing is added to the usual."""
    by_name = {entity.singular.casefold(): entity for entity in entities}
    described: dict[str, list[Part]] = {}
    for listed in lists:
        described.setdefault(_described(listed, entities).key, []).extend(listed.parts)
    for entity in entities:
        parts = described.get(entity.key, [])
        usual = entity.fields
        if len(parts) > 1:
            entity.fields = []
        for part in parts:
            target = by_name.get(singular_of(part.name.casefold()))
            if target is not entity:
                add_field(entity, _reference(target) if target else _field(part))
        if len(parts) > 1:
            _put_title_first(entity, usual[0])


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
    if part.is_flag or _STATE.search(part.name):
        made.kind, made.choices = "flag", ()
    elif part.name.casefold() in {"from", "until"}:
        made.kind = "date"
    return made
