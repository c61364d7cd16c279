"""What the audit log keeps of a tool call: enough to recognise it, and nothing that could be a key.

The transcript has the whole input. The audit row has its digest, which proves that the transcript was not changed, and
a short line for people.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from agents.workspace.secrets import masked
from projects.jsontext import storable_text

SUMMARY_CHARS = 160
MAX_NAME_CHARS = 100
# More than is shown, so that a key which the end of the line cuts is still seen as one.
_LOOKED_AT_CHARS = 4_000
# The argument that says most. Of other tools: the first text.
_TELLING = ("command", "file_path", "path", "pattern", "url", "query", "description")
# What is given away by the word before it. Whole words are masked rather too often than too seldom.
_NAMED = re.compile(
    r"""(?ix)
    ( (?: pass(?:word|wd|phrase)? | secret | token | api[_-]?key | credentials? | authorization | bearer | cookie )
      [\w-]* (?: \\* ["'] )? \s* [=:\s] \s* (?: \\* ["'] )? (?: bearer \s+ | basic \s+ )? )
    ( [^\s"'&;|]{4,} )"""
)
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]+@")


def described(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of the audit row for a transcript's TOOL_USE payload, of whatever shape."""
    arguments = payload.get("input")
    return {
        "tool": _shown(payload.get("name", ""), MAX_NAME_CHARS),
        "call": _shown(payload.get("id", ""), MAX_NAME_CHARS),
        "input_sha256": input_digest(arguments),
        "summary": summary(arguments),
    }


def input_digest(arguments: Any) -> str:
    """Return the SHA-256 of the input as canonical JSON: sorted keys, no blanks, of what is stored."""
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def summary(arguments: Any) -> str:
    """Return one short line about an input, with what looks like a key masked."""
    found = _telling(arguments) if isinstance(arguments, Mapping) else ""
    text = masked(storable_text(found[:_LOOKED_AT_CHARS]))
    text = _NAMED.sub(r"\1***", _USERINFO.sub(r"\1***@", text))
    return _shown(text, SUMMARY_CHARS)


def _telling(arguments: Mapping[str, Any]) -> str:
    named = (arguments.get(key) for key in _TELLING)
    texts = (value for value in (*named, *arguments.values()) if isinstance(value, str) and value)
    return next(texts, "")


def _shown(value: Any, max_chars: int) -> str:
    return storable_text(" ".join(str(value).split()), max_chars=max_chars)
