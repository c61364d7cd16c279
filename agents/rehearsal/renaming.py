"""What a client wants called otherwise: the whole application, what it keeps, or one of the fields."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .brief import MAX_NAME, AppSpec
from .fields import EntitySpec, FieldSpec
from .names import RESERVED_FIELDS, RESERVED_PATHS, identifier, plural_of, singular_of, unique
from .texts import one_line

_MAX_WORDS = 5
_DETERMINERS = r"(?:(?:the|our|all|an?|this|that|these|those|your)\s+)*"
_THINGS = (
    r"(?:names?|titles?|labels?|headings?|headers?|words?|terms?|wording|field|column|entity|page|list|table|tab"
    r"|menu(?: entry| item)?|section)"
)
_APP = r"(?:app|application|site|web ?site|system|software|program|product|whole thing|tool|project)"
_IS_APP = re.compile(rf"(?:it|this|that|whole|{_DETERMINERS}{_APP})(?:(?:'s|s')? (?:name|title))?", re.IGNORECASE)
_AROUND_OLD = re.compile(
    rf"^{_DETERMINERS}(?:{_THINGS}\s+(?:(?:of|for)\s+)?)*{_DETERMINERS}|\s+{_THINGS}$", re.IGNORECASE
)
_AFTER_NEW = re.compile(
    r"\s+(?:please|instead|everywhere|throughout|again|too|now|in (?:the|all)\b.*|on (?:the|all|every|each)\b.*)$",
    re.IGNORECASE,
)
_NEW_LEAD = re.compile(r"^(?:an?|the|our)\s+", re.IGNORECASE)
_SAY = (
    r"(?:say|use|write|put|prefer|have|show|it'?s|it is|they'?re|they are|those are|these are"
    r"|we (?:say|call (?:them|it|those)))"
)
_CALLED = r"(?:called|named|labell?ed|titled)"
_NEW = r"(?P<new>.{1,60})$"
# Each with the name that there is and the one that is wanted; the first that both can be found in counts.
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:rename|relabel)\s+(?P<old>.{{1,60}}?)\s+(?:to|as|into|in)\s+{_NEW}",
        rf"\b(?P<app>rename)\s+(?:to|as)\s+{_NEW}",
        r"^(?P<old>.{1,60}?)\s+(?:should|must|shall|needs? to|ha(?:s|ve) to|ought to)\s+(?:(?:rather|really|just)\s+)?"
        rf"be\s+(?:{_CALLED}|renamed(?:\s+to)?)\s+{_NEW}",
        rf"\b(?:want|like|prefer|have|see)\s+(?P<old>.{{1,60}}?)\s+(?:(?:to )?be\s+)?{_CALLED}\s+{_NEW}",
        rf"\b(?:change|set|replace|swap)\s+(?P<old>.{{1,60}}?)\s+(?:to|with|by|for)\s+{_NEW}",
        rf"\b{_SAY}\s+(?:the (?:word|term|name)\s+)?(?P<new>.{{1,60}}?),?\s+"
        r"(?:instead of|rather than|in place of|not)\s+(?P<old>.{1,60})$",
        r"\b(?:instead of|rather than)\s+(?P<old>.{1,60}?),?\s+(?:please\s+)?"
        rf"(?:say|use|write|put|call (?:it|them))\s+{_NEW}",
        rf"^(?P<old>.{{1,60}}?)\s*(?:->|→|=>)\s*{_NEW}",
        rf"^(?P<app>(?:the )?(?:title|name|heading)(?: (?:of|for) {_DETERMINERS}{_APP})?"
        rf"|{_DETERMINERS}{_APP}(?:'s)? (?:title|name))\s+(?:should|must) be\s+{_NEW}",
    )
)
_CHANGES_A_WORD = re.compile(rf"\b(?:{_THINGS}|everywhere|called)\b|\"", re.IGNORECASE)
_CALL = re.compile(r"\bcall\s+(?P<rest>.{1,90})$", re.IGNORECASE)
_CALL_IT = re.compile(rf"(?:it|this|{_DETERMINERS}{_APP})\s+", re.IGNORECASE)


def rename(spec: AppSpec, clause: str, *, spoken_of: EntitySpec | None = None) -> str | None:
    """Do what a clause asks to be called otherwise, and return what was done; None when it asks for nothing such.

    "them" is what was spoken of. Raises CannotRename when it is clear what is meant, and it cannot be.
    """
    for old, new, is_app in _wishes(spec, _AFTER_NEW.sub("", clause), spoken_of):
        if not _is_name(new):
            continue
        if is_app:
            spec.name = one_line(new, MAX_NAME)
            return f"The application is called {spec.name}."
        if (entity := entity_called(spec, old)) is not None:
            return _rename_entity(spec, entity, old, new)
        if fields := _fields_called(spec, old):
            return _rename_fields(fields, new)
    return None


class CannotRename(Exception):
    """Two things would have one name. The message is a sentence."""


def entity_called(spec: AppSpec, name: str) -> EntitySpec | None:
    """Return what the application keeps under a name, in singular or plural; the last word is enough if it is clear."""
    wanted = _stem(name)
    if not wanted:
        return None
    for entity in spec.entities:
        if wanted in {_stem(entity.singular), _stem(entity.plural)}:
            return entity
    found = [entity for entity in spec.entities if _stem(entity.singular).split()[-1:] == [wanted]]
    return found[0] if len(found) == 1 else None


def _wishes(spec: AppSpec, clause: str, spoken_of: EntitySpec | None) -> Iterator[tuple[str, str, bool]]:
    """The name that there is, the one that is wanted, and whether it is the application's."""
    for match in _PATTERNS:
        found = match.search(clause)
        if found is None:
            continue
        parts = found.groupdict()
        if "app" in parts:
            yield "", _new_name(parts["new"]), True
            continue
        verb = found[0].split()[0].casefold()
        old = parts["old"]
        # "Change the status to paid" is about records; "change the word status to paid" and "change tools to" is not.
        is_word = entity_called(spec, _old_name(old)) is not None or bool(_CHANGES_A_WORD.search(old))
        if verb in {"change", "set", "replace", "swap"} and not is_word and not _means_app(spec, old):
            continue
        is_title = re.fullmatch(r"(?:the )?(?:title|name|heading)", old, re.IGNORECASE) is not None
        is_app = (is_title and verb != "rename") or _means_app(spec, old)
        yield _old_name(old), _new_name(parts["new"]), is_app
    if (call := _CALL.search(clause)) is not None:
        rest = call["rest"]
        if (lead := _CALL_IT.match(rest)) is not None:
            yield "", _new_name(rest[lead.end() :]), True
        elif spoken_of is not None and (them := re.match(r"(?:them|those|these)\s+", rest, re.IGNORECASE)):
            yield spoken_of.plural, _new_name(rest[them.end() :]), False
        else:
            words = _unquoted(re.sub(rf"^{_DETERMINERS}", "", rest, flags=re.IGNORECASE)).split()
            for count in range(min(len(words) - 1, _MAX_WORDS), 0, -1):
                yield _old_name(" ".join(words[:count])), _new_name(" ".join(words[count:])), False


def _old_name(text: str) -> str:
    text = _unquoted(text)
    before = ""
    while before != text:
        # Not all of it: "the list" may be what is kept.
        before, text = text, _AROUND_OLD.sub("", text, count=1).strip() or text
    return text


def _new_name(text: str) -> str:
    before = ""
    while before != text:
        before, text = text, _AFTER_NEW.sub("", _unquoted(text.strip(" .,:")))
    return _NEW_LEAD.sub("", text)


def _unquoted(text: str) -> str:
    return text.replace('"', " ").strip(" '").strip()


def _is_name(text: str) -> bool:
    words = text.split()
    return 0 < len(words) <= _MAX_WORDS and len(text) <= MAX_NAME and any(character.isalnum() for character in text)


def _means_app(spec: AppSpec, text: str) -> bool:
    text = " ".join(_unquoted(text).split())
    of_app = re.fullmatch(r"(?:the )?(?:name|title) of (?P<what>.+)", text, re.IGNORECASE)
    text = of_app["what"] if of_app else text
    # What the application keeps may be called as it is itself: a tool library keeps tools.
    is_kept = re.fullmatch(rf"{_DETERMINERS}(?:tool|project|product)s?", text, re.IGNORECASE) and entity_called(
        spec, _old_name(text)
    )
    return text.casefold() == spec.name.casefold() or bool(_IS_APP.fullmatch(text) and not is_kept)


def _stem(name: str) -> str:
    words = [word.casefold() for word in re.findall(r"[^\W_]+(?:[-'’][^\W_]+)*", name)]
    return " ".join([*words[:-1], singular_of(words[-1])]) if words else ""


def _rename_entity(spec: AppSpec, entity: EntitySpec, old: str, new: str) -> str:
    before = entity.plural
    label = one_line(new, 30)
    label = label[:1].upper() + label[1:]
    *lead, last = label.split()
    one = singular_of(last.casefold())
    if one != last.casefold():  # "Spare parts"
        singular, plural = " ".join([*lead, last[: len(one)] if last.casefold().startswith(one) else one]), label
    else:
        singular, plural = label, plural_of(label)
    singular = singular[:1].upper() + singular[1:]
    others = [other for other in spec.entities if other is not entity]
    if any(_stem(singular) == _stem(other.singular) for other in others):
        raise CannotRename(f"There are {plural.lower()} already, so {before.lower()} cannot be called so too.")
    key = unique(identifier(singular, "item"), {other.key for other in others})
    paths = {*RESERVED_PATHS, *(other.path for other in others)}
    path = unique(identifier(plural, "items").replace("_", "-"), paths, joint="-")
    for other in spec.entities:
        for item in other.fields:
            if item.target == entity.key:
                item.target = key
                if item.label == entity.singular:
                    _relabel(other, item, singular)
    entity.key, entity.path, entity.singular, entity.plural = key, path, singular, plural
    return f"{before} are called {plural}."


def _fields_called(spec: AppSpec, name: str) -> list[tuple[EntitySpec, FieldSpec]]:
    """The fields of a name, of the entity that is named with it ("phone of members") or of all."""
    qualified = re.fullmatch(r"(?P<field>.+?)\s+(?:of|in|for|on)\s+(?P<entity>.+)", name, re.IGNORECASE)
    owner = entity_called(spec, _old_name(qualified["entity"])) if qualified else None
    wanted = _stem(_old_name(qualified["field"]) if qualified and owner else name)
    return [
        (entity, item)
        for entity in ([owner] if owner else spec.entities)
        for item in entity.fields
        if wanted and wanted in {_stem(item.label), _stem(item.key.replace("_", " "))}
    ]


def _rename_fields(found: list[tuple[EntitySpec, FieldSpec]], new: str) -> str:
    before = found[0][1].label
    label = one_line(new, 30)
    label = label[:1].upper() + label[1:]
    for entity, item in found:
        if any(_stem(label) == _stem(other.label) for other in entity.fields if other is not item):
            raise CannotRename(f"{entity.plural} have a field {label.lower()} already.")
    for entity, item in found:
        _relabel(entity, item, label)
    return f"{before} is called {label} in {', '.join(entity.plural.lower() for entity, _ in found)}."


def _relabel(entity: EntitySpec, item: FieldSpec, label: str) -> None:
    taken = {other.key for other in entity.fields if other is not item} | RESERVED_FIELDS
    item.label, item.key = label, unique(identifier(label, "field"), taken)
