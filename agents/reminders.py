"""What Claude Code adds to what an agent reads, `<system-reminder>…</system-reminder>`, and agents repeat. People are
not shown it.

Such a block begins a line, as the CLI writes it; where somebody joined the lines it stands within one, and has a few
words at least. The tag alone, in quotes or with next to nothing in it, is talk about the tag and stays, and so does
what the client wrote themselves.
"""

import re

_TAG = "system-reminder"
_BLOCK = re.compile(rf"(^[^\S\n]*|(?<=\s))<{_TAG}>(.*?)</{_TAG}>[^\S\n]*", re.DOTALL | re.MULTILINE)
# Cut off before its end: the tag has a line of its own.
_OPEN = re.compile(rf"^[^\S\n]*<{_TAG}>[^\S\n]*\n(?:(?!</{_TAG}>).)*\Z", re.DOTALL | re.MULTILINE)
_FEWEST_WORDS = 4
_BLANK_LINES = re.compile(r"\n{3,}")


def without_reminders(text: str, *, written: str = "") -> str:
    """Return a text without the CLI's blocks, but with those that are in what the client has `written`."""
    if f"<{_TAG}>" not in text:
        return text
    known = _joined(written)

    def left(match: re.Match[str]) -> str:
        block = match[0].strip()
        begins_line = match.start() == 0 or text[match.start() - 1] == "\n"
        is_talk = not begins_line and len(match[2].split()) < _FEWEST_WORDS
        return match[0] if is_talk or _joined(block) in known else ""

    found = _BLOCK.sub(left, text)
    if (cut := _OPEN.search(found)) and _joined(cut[0]) not in known:
        found = found[: cut.start()]
    return text if found == text else _BLANK_LINES.sub("\n\n", found).strip()


def _joined(text: str) -> str:
    return " ".join(text.split())
