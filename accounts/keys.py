"""The form of an API key: `ek_live_<8 characters to find it by>_<43 characters of 256 random bits>`.

The secret is random enough that a plain SHA-256 keeps it: there is nothing to guess, and checking costs nothing.
"""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass

PREFIX_CHARS = 8
_ALPHABET = string.ascii_lowercase + string.digits
_FORM = re.compile(r"ek_live_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class KeyText:
    """A whole key, as only its holder has it. Its `repr` has no secret."""

    prefix: str
    secret: str

    def __str__(self) -> str:
        return f"ek_live_{self.prefix}_{self.secret}"

    def __repr__(self) -> str:
        return f"KeyText(ek_live_{self.prefix}_…)"

    @property
    def digest(self) -> str:
        """What is stored: the SHA-256 of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def new_key_text() -> KeyText:
    """Return a new key."""
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(PREFIX_CHARS))
    return KeyText(prefix, secrets.token_urlsafe(32))


def parse(text: str) -> KeyText | None:
    """Return the key that is written there; None for what cannot be one."""
    found = _FORM.fullmatch(text)
    return KeyText(found[1], found[2]) if found else None
