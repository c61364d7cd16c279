"""Writing Python source."""

from __future__ import annotations

import json
import re

WIDTH = 100


def literal(text: str) -> str:
    """A Python string literal in double quotes, on one line, in ASCII and printable characters only where needed."""
    quoted = json.dumps(text, ensure_ascii=False)
    # JSON leaves these as they are; in Python source they are line breaks or invisible.
    return re.sub(
        r"[\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]", lambda m: f"\\u{ord(m[0]):04x}", quoted
    )
