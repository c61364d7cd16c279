"""What a client's feedback on a demo changes in the application, and which of its words were not understood."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .brief import AppSpec
from .fields import EntitySpec, FieldSpec, add_field, field_of
from .lexicon import CALENDAR_WORDS, HUES, REPORT_WORDS, STOPWORDS
from .renaming import CannotRename, entity_called, rename
from .texts import clean, one_line

MAX_CHANGE = 160
_MAX_CLAUSES = 40
_VERBS = (
    r"rename|relabel|call|change|replace|swap|set|add|include|show|record|store|remove|drop|delete|hide|make|turn|use"
    r"|say|put|get rid"
)
_CLAUSE = re.compile(
    r"[;!?\n]+|\.(?=\s|$)|,?\s+(?:and|but|then|also)\s+(?:also\s+|then\s+|please\s+|we\s+)*(?=(?:" + _VERBS + r")\b)"
    r"|,\s*(?:please\s+)?(?=(?:" + _VERBS + r")\b)"
    r"|,?\s+(?:and|but)\s+(?=[^,;.]{1,40}\s(?:should|must|needs? to|ha(?:s|ve) to|don't need|do not need)\b)"
    r"|,\s+(?=[^,;.]{1,40}\s(?:should|must|needs? to|ha(?:s|ve) to)\b)",
    re.IGNORECASE,
)
_POLITE = re.compile(
    r"^(?:(?:please|also|and|but|could you|can you|would you|would it be possible to|i would like (?:you )?to"
    r"|i'd like (?:you )?to|we would like (?:you )?to|we'd like (?:you )?to|i want you to|one thing:|oh|hi|hello|ok"
    r"|okay|then|maybe|perhaps|kindly|just|next|finally|first)[,:]?\s+)+",
    re.IGNORECASE,
)
# Nothing is asked for.
_PRAISE = re.compile(
    r"\b(?:thanks?|great|lovely|nice|good|perfect|excellent|wonderful|love it|like it|well done|fine|approved)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(?:" + _VERBS + r"|should|must|needs?|want|missing|without|instead|not|no|too|can't|cannot|but)\b",
    re.IGNORECASE,
)
_ADD = re.compile(
    r"\b(?:add|include|show|record|store|need|want|missing|with|note)\s+(?:also\s+)?(?P<what>.{2,120})$", re.IGNORECASE
)
_IS_MISSING = re.compile(r"^(?P<what>.{2,60}?)\s+(?:is|are)\s+missing$", re.IGNORECASE)
_WHERE = re.compile(
    r"\s+(?:to|for|of|on|in|per|with|from)\s+(?:(?:each|every|the|all|an?|our|their)\s+)?"
    r"(?P<entity>[A-Za-z][A-Za-z -]{2,40})$",
    re.IGNORECASE,
)
_LIST = re.compile(r",\s*(?:and\s+)?|\s+and\s+|\s*&\s*|\s+plus\s+", re.IGNORECASE)
_FIELD_LEAD = re.compile(
    r"^(?:(?:the|an?|another|new|extra|additional|some|also|more|its|their)\s+)*"
    r"(?:(?:field|column)s?\s+(?:for|called|named)?\s*)?(?:(?:the|an?)\s+)?",
    re.IGNORECASE,
)
_FIELD_TAIL = re.compile(r"\s+(?:field|column|too|as well|please)s?$", re.IGNORECASE)
_REMOVE = re.compile(
    r"\b(?:remove|drop|delete|without|hide|get rid of|(?:don't|do not|no longer) (?:need|want))\s+(?P<what>.{2,80})$",
    re.IGNORECASE,
)
_MUST = re.compile(
    r"(?:^(?P<subject>.{2,40}?)\s+(?:should|must|has to|have to|needs to)\s+be|\bmake\s+(?P<object>.{2,40}?))"
    r"\s+(?:a\s+)?(?P<how>required|mandatory|obligatory|optional)(?:\s+field)?$",
    re.IGNORECASE,
)


@dataclass
class Reading:
    """What came of a text: sentences about what was done, and about what was not and why."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def answer(self) -> str:
        """What the client is told."""
        changed = f"Changed after your feedback: {' '.join(self.done)}" if self.done else "Nothing was changed."
        return " ".join([changed, *self.left])


def apply(spec: AppSpec, text: str) -> Reading:
    """Change the description as the text asks, note what was changed so that it shows on the overview, and say it."""
    reading = Reading()
    spoken_of = None
    for clause in _clauses(text):
        _apply(spec, clause, reading, spoken_of)
        spoken_of = _spoken_of(spec, clause) or spoken_of
    if not reading.done and not reading.left and (said := one_line(text, 100)):
        reading.left.append(f"Nothing to change was found in “{said}”.")
    spec.changes += [one_line(sentence, MAX_CHANGE) for sentence in [*reading.done, *reading.left]]
    return reading


def _clauses(text: str) -> list[str]:
    text = re.sub(r"[“”„«»‘]|(?<!\w)'|'(?!\w)|’(?!\w)", '"', clean(text, limit=4000))
    found = []
    for part in _CLAUSE.split(text)[:_MAX_CLAUSES]:
        part = _POLITE.sub("", part.strip(" ,.:-–—"))
        if part:
            found.append(part)
    return found


def _spoken_of(spec: AppSpec, clause: str) -> EntitySpec | None:
    found = [entity for word in re.findall(r"[A-Za-z]{3,}", clause) if (entity := entity_called(spec, word))]
    return found[-1] if found else None


def _apply(spec: AppSpec, clause: str, reading: Reading, spoken_of: EntitySpec | None) -> None:
    try:
        renamed = rename(spec, clause, spoken_of=spoken_of)
    except CannotRename as problem:
        reading.left.append(f"Not changed: {problem}")
        return
    if renamed is not None:
        reading.done.append(renamed)
        return
    before = len(reading.done) + len(reading.left)
    if not _require(spec, clause, reading) and not _remove(spec, clause, reading):
        _recolour(spec, clause, reading)
        _add(spec, clause, reading)
        _leave_to_the_plan(spec, clause, reading)
    is_wish = _ASKS.search(clause) or not _PRAISE.search(clause)
    if len(reading.done) + len(reading.left) == before and is_wish and len(re.findall(r"\w+", clause)) > 1:
        reading.left.append(f"Not understood, and not changed: “{one_line(clause, 100)}”.")


def _recolour(spec: AppSpec, clause: str, reading: Reading) -> None:
    words = re.findall(r"[a-z]+", clause.casefold())
    for word in [word for word in words if word in HUES][:1]:
        spec.hue = HUES[word]
        reading.done.append(f"The colour is {word}.")


def _require(spec: AppSpec, clause: str, reading: Reading) -> bool:
    found = _MUST.search(clause)
    if found is None:
        return False
    wanted = _full_name(spec.entities, _field_name(found["subject"] or found["object"]))
    is_required = found["how"].casefold() != "optional"
    where = [(entity, item) for entity in spec.entities for item in entity.fields[1:] if _is_called(item, wanted)]
    for _, item in where:
        item.required = is_required
    if where:
        names = ", ".join(entity.plural.lower() for entity, _ in where)
        reading.done.append(f"{where[0][1].label} is {'required' if is_required else 'optional'} in {names}.")
    return bool(where)


def _add(spec: AppSpec, clause: str, reading: Reading) -> None:
    found = _ADD.search(clause) or _IS_MISSING.search(clause)
    if found is None:
        return
    what, owner = _owner(spec, found["what"])
    for part in _LIST.split(what)[:8]:
        name = _field_name(part)
        words = name.casefold().split()
        if not words or len(words) > 3 or not all(re.fullmatch(r"[a-z][a-z'-]{1,27}", word) for word in words):
            continue
        if any(word in STOPWORDS | HUES.keys() | REPORT_WORDS | CALENDAR_WORDS for word in words):
            continue
        if entity_called(spec, name) is None:
            entity = owner or spec.entities[0]
            wanted = field_of(name)
            if add_field(entity, wanted, first=True):
                reading.done.append(f"{entity.plural} have a field {wanted.label.lower()}.")
            else:
                reading.left.append(
                    f"Not added: {entity.plural.lower()} have {name.lower()} already, or no room for it."
                )


def _remove(spec: AppSpec, clause: str, reading: Reading) -> bool:
    found = _REMOVE.search(clause)
    if found is None:
        return False
    what, owner = _owner(spec, found["what"])
    for part in _LIST.split(what)[:8]:
        wanted = _field_name(part)
        among = [owner] if owner else spec.entities
        wanted = _full_name(among, wanted)
        where = [entity for entity in among if _drop(entity, wanted)]
        if where:
            names = ", ".join(entity.plural.lower() for entity in where)
            reading.done.append(f"{wanted[:1].upper()}{wanted[1:]} is removed from {names}.")
        elif any(_is_called(item, wanted) for entity in spec.entities for item in entity.fields):
            reading.left.append(f"Not removed: by {wanted} records are told apart, or found.")
        else:
            reading.left.append(f"Not understood, and not removed: “{one_line(part, 60)}”.")
    return True


def _full_name(among: list[EntitySpec], wanted: str) -> str:
    """The name of the field that is meant: "the deposit" is the daily deposit where there is no other."""
    items = [item for entity in among for item in entity.fields]
    if any(_is_called(item, wanted) for item in items):
        return wanted
    ending = {item.label.casefold() for item in items if item.label.casefold().split()[-1:] == [wanted.casefold()]}
    return ending.pop() if len(ending) == 1 else wanted


def _drop(entity: EntitySpec, wanted: str) -> bool:
    # The title stays, and so do references: records could no longer be told apart or found.
    kept = [item for item in entity.fields[1:] if item.kind == "ref" or not _is_called(item, wanted)]
    is_dropped = len(kept) < len(entity.fields) - 1
    entity.fields[1:] = kept
    return is_dropped


def _leave_to_the_plan(spec: AppSpec, clause: str, reading: Reading) -> None:
    """A report and a calendar are tasks of the plan, which was approved before: say whether it has them."""
    words = set(re.findall(r"[a-z]+", clause.casefold()))
    for name, asked, is_planned in (
        ("report", words & REPORT_WORDS, spec.wants_report),
        ("calendar", words & CALENDAR_WORDS, spec.wants_calendar),
    ):
        if asked and is_planned:
            reading.done.append(f"A {name} is part of the plan, and comes with the build.")
        elif asked:
            reading.left.append(f"Not in the plan: a {name}. It takes a task of its own.")


def _owner(spec: AppSpec, text: str) -> tuple[str, EntitySpec | None]:
    """Part "weight for each tool" into what and whose; all of the text and None where nothing is named that is kept."""
    found = _WHERE.search(text)
    owner = None
    if found is not None:
        name = re.sub(r"\s+(?:form|list|page|record|table|screen)s?$", "", found["entity"], flags=re.IGNORECASE)
        owner = entity_called(spec, name)
    return (text[: found.start()], owner) if found is not None and owner is not None else (text, None)


def _field_name(text: str) -> str:
    text = _FIELD_LEAD.sub("", text.replace('"', " ").strip())
    return " ".join(_FIELD_TAIL.sub("", text).split()).strip(" '")


def _is_called(item: FieldSpec, wanted: str) -> bool:
    wanted = wanted.casefold()
    return wanted in {
        item.label.casefold(),
        item.key,
        item.key.replace("_", " "),
        item.label.casefold().replace("-", ""),
    }
