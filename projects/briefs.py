"""The client's brief: what is refused, what it is called, and the sample that the first screen offers."""

import re
import unicodedata

from django.conf import settings

from projects.errors import InvalidBrief
from projects.jsontext import storable_text

SAMPLE_BRIEF = """\
We run a tool library for our neighbourhood. Members borrow tools such as drills and ladders and bring them back \
within two weeks. We need a small web page where a volunteer adds tools with a photo link, a category and a daily \
deposit, registers members with name, e-mail and phone, and records who borrowed what until when. We want to see at a \
glance what is out and what is overdue, search for a tool by name, and export the list of loans."""

_NAME_MAX = 60
# Invisible, yet part of words in several scripts and of composed emoji.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_UNFIT = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def check_brief(text: str) -> str:
    """Return the brief, trimmed and storable. Raises InvalidBrief with what is wrong and what to do."""
    if "\x00" in text or _control_share(text) > 0.02:
        raise InvalidBrief("This looks like a binary file. Paste the brief as text.")
    text = storable_text(text).strip()
    if not any(char.isalnum() for char in text):
        raise InvalidBrief("The brief is empty. Say in a sentence or two what the client wants.")
    limit = settings.EKLAVYA_BRIEF_MAX_CHARS
    if len(text) > limit:
        raise InvalidBrief(
            f"The brief has {len(text):,} characters; the limit is {limit:,}. Shorten it, or keep the essence "
            "here and hand the rest over in the chat."
        )
    return text


def name_from(brief: str) -> str:
    """Return a working name for a project: the start of the brief's first line, until the PM names it."""
    first = next((line for line in brief.splitlines() if line.strip()), "New project")
    words = re.sub(r"\s+", " ", clean_name(first))
    if len(words) <= _NAME_MAX:
        return words or "New project"
    return words[:_NAME_MAX].rsplit(" ", 1)[0] + "…"


def clean_name(name: str) -> str:
    """Return a name fit for a title: one line, no control or direction-changing characters, at most 255."""
    kept = (char if char in _JOINERS or unicodedata.category(char) not in _UNFIT else " " for char in name)
    return re.sub(r"\s+", " ", "".join(kept)).strip(f" {_JOINERS}")[:255]


def _control_share(text: str) -> float:
    # Not the private area: what is pasted from a word processor has its bullets there.
    controls = sum(1 for char in text if unicodedata.category(char) in {"Cc", "Cs"} and char not in "\r\n\t\f")
    return controls / max(len(text), 1)
