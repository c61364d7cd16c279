"""What the product manager asks a client whose brief leaves something open: at most two questions, each of which an
answer changes something.

Whoever does not answer in words of their own gets what is recommended. Answers are read as a part of the brief.
"""

from __future__ import annotations

import re

from .brief import is_clear, parse
from .fields import EntitySpec
from .listed import lists_in
from .names import singular_of
from .texts import clean
from .wire import JSON

MOST = 2
# A brief of more words says by itself what is important about a thing.
_SHORT_WORDS = 25
_LOG_IN = re.compile(
    r"\b(?:log(?:s|ging)?[ -]?in|sign(?:s|ing)?[ -]?in|passwords?|user accounts?|members'? area)\b", re.IGNORECASE
)
# "Tools: name, owner", and "tools with their owner".
_HAS_FIELDS = re.compile(r"\bwith\b|:[^.]*,", re.IGNORECASE)
_NOBODY = "Nobody has to: it runs where only we can reach it"

_PURPOSE: JSON = {
    "question": "Which of these matters most for the first version?",
    "options": ["Quick entry and search", "A report with totals", "A calendar of dates"],
    "recommended": "Quick entry and search",
}
_EXAMPLES = (
    "Members, tools and loans: who has borrowed what, and when it is due",
    "Customers, rooms and bookings with date and price",
    "Products with stock and price, and their suppliers",
)


def questions_of(brief: str) -> list[JSON]:
    """What to ask; nothing where the brief says what it has to."""
    clear = is_clear(brief)
    found = [] if clear else [_records(brief)]
    if _LOG_IN.search(clean(brief)):
        found.append(_access())
    if clear and (entity := _unidentified(brief)) is not None:
        found.append(_identity(entity))
    return found[:MOST] if clear or len(found) > 1 else [*found, _PURPOSE]


def _records(brief: str) -> JSON:
    """What to keep. What can be guessed from a few words is offered first."""
    entities = parse(brief).entities
    options = list(_EXAMPLES)
    if entities[0].noun is not None and entities[0].noun != "item":
        guess = " and ".join(entity.plural.lower() for entity in entities[:3])
        options = [f"Track {guess}, with what is usual for them", *options[:2]]
    return {
        "question": "What should the application keep track of? Name the things, and what you need to know of each.",
        "options": options,
        "recommended": options[0],
    }


def _access() -> JSON:
    return {
        "question": "Who may log in? The first version has no sign-in: whoever reaches its address can use it.",
        "options": [_NOBODY, "Everybody by a password: leave it for later"],
        "recommended": _NOBODY,
    }


def _unidentified(brief: str) -> EntitySpec | None:
    """The first thing that a short brief names, and says nothing of."""
    text = clean(brief)
    if len(text.split()) > _SHORT_WORDS or lists_in(text) or _HAS_FIELDS.search(text):
        return None
    words = {singular_of(word) for word in re.findall(r"[a-z]+", text.casefold())}
    things = (entity for entity in parse(brief).entities if entity.sort == "thing" and entity.noun)
    return next((entity for entity in things if entity.singular.casefold() in words), None)


def _identity(entity: EntitySpec) -> JSON:
    one, several = entity.singular.lower(), entity.plural.lower()
    title, *others = (field.label.lower() for field in entity.fields if field.kind != "ref")
    by_title = f"By its {title}"
    return {
        "question": f"By what do you tell one {one} from another?",
        "options": [by_title, f"By a number too: {several} have a {', '.join([title, *others])} and a number"],
        "recommended": by_title,
    }
