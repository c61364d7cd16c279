"""Recording that a program's request was refused, without letting whoever sends such requests write rows for ever.

A row a minute for each kind of refusal and whoever it is of, with the number of requests since the row before; and of
all kinds of one together a bounded number of rows a minute, the rest under one name. What was sent is not recorded: it
may be anything. The counts are in the cache; without it a refusal is a line of the log.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis
from django.core.cache import cache
from django.db import models

from projects import audit
from projects.actors import Actor

logger = logging.getLogger(__name__)

EVERY_S = 60
MOST_KINDS = 20
OTHERS = "(others)"
# So long a count waits for the next row.
_KEPT_S = 86_400


@dataclass(frozen=True)
class Refusal:
    """One refused request. `who` and `kind` say what is counted together; `obj` is what it is about."""

    action: str
    who: str
    kind: str
    details: dict[str, Any] = field(default_factory=dict)
    obj: models.Model | None = None
    most_kinds: int = MOST_KINDS


def note(refusal: Refusal, *, by: Actor, now: datetime) -> bool:
    """Count a refusal, and record it where a row is due. Return whether one was written."""
    try:
        due = _count(f"refused:{_digest(refusal.action, refusal.who)}", refusal)
    except redis.RedisError as error:
        logger.warning("%s of %s is not recorded, the cache is away: %s", refusal.action, refusal.who, error)
        return False
    if due is None:
        return False
    is_named, requests = due
    details = refusal.details if is_named else {"kind": OTHERS}
    with audit.journal(by=by, now=now) as journal:
        journal.add(refusal.action, obj=refusal.obj, details=details | {"requests": requests})
    return True


def _count(base: str, refusal: Refusal) -> tuple[bool, int] | None:
    """Return whether a row that is due names the kind, and of how many requests it is; None where none is due."""
    kind = f"{base}:{_digest(refusal.kind)}"
    requests = _add(f"{kind}:requests", 1, _KEPT_S)
    if not cache.add(f"{kind}:row", 1, EVERY_S):
        return None
    is_named = _add(f"{base}:rows", 1, EVERY_S) <= refusal.most_kinds
    if not is_named:
        cache.delete(f"{kind}:requests")
        kind = f"{base}:others"
        requests = _add(f"{kind}:requests", requests, _KEPT_S)
        if not cache.add(f"{kind}:row", 1, EVERY_S):
            return None
    cache.delete(f"{kind}:requests")
    return is_named, requests


def _add(key: str, number: int, keep_s: int) -> int:
    cache.add(key, 0, keep_s)
    try:
        return int(cache.incr(key, number))
    except ValueError:  # it went in this moment
        return number


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8", "backslashreplace")).hexdigest()[:32]
