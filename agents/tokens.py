"""Run tokens: what an agent shows to the gateway. Random, bound to one run, stored only as a hash."""

import hashlib
import secrets

_PREFIX = "ekr_"


def new_token() -> str:
    """Return a fresh token of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return what is stored of a token. It is random and long, so a fast hash is right (no salt, no stretching)."""
    return hashlib.sha256(token.encode()).hexdigest()
