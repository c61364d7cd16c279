"""Read a client's brief: what the application is called, what it keeps, and what it should show.

`parse` takes any text at all - empty, huge, another script, markup - and always returns a description from which a
valid application can be built; the same text always gives the same description. Names meant for people keep the
client's words; names meant for code are ASCII identifiers made here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .fields import EntitySpec, FieldSpec, fields_in
from .lexicon import (
    CALENDAR_WORDS,
    FIELD_KINDS,
    HUES,
    OUT_OF_SCOPE,
    REPORT_WORDS,
    STOPWORDS,
    TRADES,
    VERBS,
)
from .listed import CONTAINERS, Listed, fill_listed, lists_in, without_lists
from .names import RESERVED_PATHS, identifier, plural_of, singular_of, unique
from .nouns import NOUNS, known_noun
from .texts import clean, one_line

MAX_ENTITIES = 5
MAX_NAME = 40
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_KEEP = re.compile(
    r"\b(?:manag(?:e|es|ing)|(?:keep(?:s|ing)? )?track(?:s|ing)?(?: of)?|lists? of|catalog(?:ue)?(?: of)?|records? of"
    r"|organi[sz](?:e|es|ing)|collections? of|register(?: of)?|inventory of|database of|stores?|log(?: of)?|keeps?)"
    r"\s+([^.;:\n!?]{3,160})",
    re.IGNORECASE,
)
_EXAMPLES = re.compile(
    r"\s(?:such as|for example|e\.g\.)\s[\w-]{1,20}(?:,\s[\w-]{1,20}){0,4}(?:\s(?:and|or)\s[\w-]{1,20})?"
)
_ACTS = re.compile(r"\s(?:can |may )?(?:adds?|sees?|records?|registers?|enters?|manages?|approves?|checks?|edits?)\b")
_OBJECT = re.compile(r"\b(\w{1,20})\s(?:(?:our|their|the|all|any)\s)?([a-z]{3,20}s)\b")
_NAMED = re.compile(r"\b(?:called|named)\s+[\"“'‘«]?([^\W_][^\"”'’»\n.,;:!?<>]{1,39})", re.IGNORECASE)
_FOR = re.compile(
    r"(?:\b(?:for|run|runs|have|own)\s(?:a|an|our|my|the|your)|^(?:a|an|our|the))\s(?:(?:small|little|new|local)\s)?"
    r"([^\W\d_][\w'’-]{0,30}(?:\s[^\W\d_][\w'’-]{0,30}){0,3}?)"
    r"(?=\s(?:that|who|where|which|with|to|and|in|so|at|on|for|wants?|needs?|takes?|books?|lends?|keeps?|sells?|has)\b"
    r"|[,.;:\n]|$)",
    re.IGNORECASE,
)
_SPLIT = re.compile(r",|;|/|&|\+|\band\b|\bor\b|\bplus\b|\bas well as\b", re.IGNORECASE)
_LEAD = re.compile(
    r"^(?:(?:(?:collection|list|set|number|range|stock|register) of|a|an|the|its|their|his|her|our|my|each|every|all"
    r"|some|optional|required|own|of|which|what|who|several|many|different)\s+)+",
    re.IGNORECASE,
)
_NO_FIELD = (STOPWORDS - {"name", "time", "place"}) | REPORT_WORDS | CALENDAR_WORDS


@dataclass
class AppSpec:
    """Everything that is generated from the brief."""

    name: str
    tagline: str
    entities: list[EntitySpec]
    hue: int
    currency: str
    wants_report: bool
    wants_calendar: bool
    out_of_scope: list[str]
    changes: list[str] = field(default_factory=list)


def is_clear(text: str) -> bool:
    """Whether the brief says enough to start: six words, and at least one thing that can be kept."""
    text = clean(text)
    words = [word.casefold() for word in _WORD.findall(text)]
    return len(words) >= 6 and bool(_named_nouns(text) or _trade(words))


def parse(brief: str) -> AppSpec:
    """What to build for this brief."""
    text = _EXAMPLES.sub(" ", clean(brief))
    words = [word.casefold() for word in _WORD.findall(text)]
    lists = lists_in(text)
    entities = _entities(text, words, lists)
    fill_listed(entities, lists)
    _relate(entities)
    vocabulary = set(words)
    has_dates = any(item.kind == "date" for entity in entities for item in entity.fields)
    return AppSpec(
        name=_name(text, entities),
        tagline=_tagline(text, entities),
        entities=entities,
        hue=_hue(text, words),
        currency=_currency(text, vocabulary),
        wants_report=bool(vocabulary & REPORT_WORDS),
        wants_calendar=bool(vocabulary & CALENDAR_WORDS) and has_dates,
        out_of_scope=sorted({meaning for word, meaning in OUT_OF_SCOPE.items() if word in text.casefold()}),
    )


def _entities(text: str, words: list[str], lists: list[Listed]) -> list[EntitySpec]:
    owners = [listed.owner for listed in lists if listed.owner]
    nouns = _without_repeats([*owners, *_named_nouns(without_lists(text, lists))])
    trade = _trade(words)
    for noun in TRADES[trade][1] if trade else ():
        if len(nouns) < 2 and noun not in [known_noun(name) for name in nouns]:
            nouns.append(noun)
    nouns += [event for event in _events(words) if event not in nouns]
    if not nouns:
        nouns = _frequent(words) or ["item"]
    taken: set[str] = set()
    paths = set(RESERVED_PATHS)
    return [_entity(noun, taken, paths) for noun in nouns[:MAX_ENTITIES]]


def _named_nouns(text: str) -> list[str]:
    """Names of things, in the order of the text: known nouns anywhere, unknown ones after words such as "track"."""
    found: dict[str, int] = {}
    for match in _KEEP.finditer(text):
        for part in _SPLIT.split(match[1])[:6]:
            name = _as_name(part)
            if name:
                found.setdefault(name, match.start(1) + match[1].find(part))
    for match in _OBJECT.finditer(text):
        verb = match[1].casefold()
        if VERBS.get(verb) or VERBS.get(verb.removesuffix("s")):
            found.setdefault(singular_of(match[2].casefold()), match.start(2))
    verbs = {
        word for word in VERBS if re.search(rf"\b(?:can|to|who|they|we|people|\w+s)\s+{word}\b", text, re.IGNORECASE)
    }
    for match in _WORD.finditer(text):
        word = match[0].casefold()
        known = known_noun(word)
        if _is_verb(text, match) or (word in CONTAINERS and _holds(text, match)):
            continue
        if known and word not in FIELD_KINDS and word not in verbs and not _ACTS.match(text, match.end()):
            found.setdefault(singular_of(word), match.start())
    ordered = sorted(found, key=lambda name: found[name])
    return _without_repeats(ordered)


def _is_verb(text: str, match: re.Match[str]) -> bool:
    """Whether a noun is a verb here: a clinic books appointments."""
    after = _WORD.match(text, match.end() + 1)
    return singular_of(match[0].casefold()) in VERBS and after is not None and known_noun(after[0]) is not None


def _holds(text: str, match: re.Match[str]) -> bool:
    """Whether a word means the application itself: a tool for, an app to."""
    return re.match(r"\s(?:for|to|that|where|which|so)\b", text[match.end() : match.end() + 8]) is not None


def _without_repeats(names: Iterable[str]) -> list[str]:
    """One name per noun: "power tool" and "tool" are the same thing, and so are "bike" and "bicycle"."""
    kept: dict[str, str] = {}
    for name in names:
        kept.setdefault(known_noun(name) or name.split()[-1], name)
    return list(kept.values())


def _as_name(part: str) -> str | None:
    """The singular name in a part of a list, or None if it does not look like one."""
    words = re.split(
        r"\b(?:in|for|that|who|which|with|at|on|by|from|to|of|per|they|we|when|so|can|is|are)\b",
        _LEAD.sub("", part.strip()),
    )[0]
    pieces = [word.casefold() for word in _WORD.findall(words)][-2:]
    if not pieces or not pieces[-1].isascii() or len(pieces[-1]) < 3 or len(pieces[-1]) > 24:
        return None
    if pieces[-1] in STOPWORDS or pieces[-1] in FIELD_KINDS or "'" in pieces[-1]:
        return None
    if known_noun(pieces[-1]) is None and not pieces[-1].endswith("s"):
        return None
    pieces[-1] = singular_of(pieces[-1])
    return " ".join(word for word in pieces if word not in STOPWORDS and word.isascii() and len(word) < 20)


def _trade(words: list[str]) -> str | None:
    counts = {trade: sum(word in triggers for word in words) for trade, (triggers, _) in TRADES.items()}
    best = max(counts, key=lambda trade: counts[trade])
    return best if counts[best] else None


def _events(words: list[str]) -> list[str]:
    """Events that verbs tell of: in "members borrow tools" it is a loan."""
    found = []
    for before, word, after in zip(words, words[1:], words[2:], strict=False):
        event = VERBS.get(word) or VERBS.get(word.removesuffix("s")) or VERBS.get(word.removesuffix("ed"))
        follows = before in {"can", "to", "who", "they", "we", "people"} or known_noun(before) is not None
        is_of_another = (known := _known_event(after)) is not None and known != event  # to book an appointment
        if event and follows and not is_of_another and after not in FIELD_KINDS and event not in found:
            found.append(event)
    return found


def _known_event(word: str) -> str | None:
    known = known_noun(word)
    return known if known and NOUNS[known].sort == "event" else None


def _frequent(words: list[str]) -> list[str]:
    counts: dict[str, int] = {}
    for word in words[:2000]:
        if word not in STOPWORDS and word not in FIELD_KINDS and 3 < len(word) < 20 and word.isalpha():
            counts[singular_of(word)] = counts.get(singular_of(word), 0) + 1
    return sorted(counts, key=lambda word: -counts[word])[:1]


def _entity(name: str, taken: set[str], paths: set[str]) -> EntitySpec:
    noun = known_noun(name)
    key = unique(identifier(name, "item"), taken)
    label = one_line(name, 30).capitalize() or "Item"
    several = plural_of(label)
    entity = EntitySpec(
        key=key,
        path=unique(identifier(several, "items").replace("_", "-"), paths, joint="-"),
        singular=label,
        plural=several,
        noun=noun,
        sort=NOUNS[noun].sort if noun else "thing",
    )
    entity.fields = fields_in(
        NOUNS[noun].fields if noun else "!name category date:date status=new|active|done notes:long"
    )
    return entity


def _relate(entities: list[EntitySpec]) -> None:
    """Let every event refer to the first person and the first thing."""
    for event in (entity for entity in entities if entity.sort == "event"):
        for sort in ("thing", "person"):
            target = next((entity for entity in entities if entity.sort == sort), None)
            if target is not None and target.key not in {item.key for item in event.fields}:
                event.fields.insert(1, FieldSpec(target.key, target.singular, "ref", True, target=target.key))


def _name(text: str, entities: list[EntitySpec]) -> str:
    match = _NAMED.search(text)
    if match and (name := one_line(match[1], MAX_NAME)):
        return re.split(r"\s+(?:that|which|who|where|for|to|with|and)\b", name)[0].strip() or name
    match = _FOR.search(text)
    words = match[1].split() if match else []
    while words and words[0].casefold() in STOPWORDS:
        words.pop(0)
    while words and words[-1].casefold() in STOPWORDS:
        words.pop()
    if words and words[-1].casefold() not in CONTAINERS:
        return one_line(" ".join(word[:1].upper() + word[1:] for word in words), MAX_NAME)
    event = next((entity for entity in entities if entity.sort == "event"), None)
    thing = next((entity for entity in entities if entity.sort == "thing"), None)
    if event and thing:
        return one_line(f"{thing.singular} {event.plural}".title(), MAX_NAME)
    return one_line(f"{entities[0].singular} desk".title(), MAX_NAME)


def _tagline(text: str, entities: list[EntitySpec]) -> str:
    first = re.split(r"(?<=[.!?])\s|\n", text, maxsplit=1)[0]
    if len(first.split()) >= 3 and len(first) <= 120:
        return one_line(first, 120)
    names = [entity.plural.lower() for entity in entities]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"Keeps {listed} in one place."


def _hue(text: str, words: list[str]) -> int:
    for word in words:
        if word in HUES:
            return HUES[word]
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 360


def _currency(text: str, vocabulary: set[str]) -> str:
    for sign, names in {
        "€": {"euro", "euros"},
        "£": {"pound", "pounds"},
        "₹": {"rupee", "rupees"},
        "CHF ": {"francs"},
    }.items():
        if sign in text or vocabulary & names:
            return sign
    return "$"
