"""Who is locked out after too many wrong passwords (django-axes), and letting them try again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from axes.models import AccessAttempt
from axes.utils import reset
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.http import HttpRequest

from accounts.records import record

_NAME_CHARS = 150


@dataclass(frozen=True)
class LockOut:
    """A name that nobody may sign in with from an address until `ends_at`."""

    username: str
    ip_address: str
    ends_at: datetime


def typed_name(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str:
    """Return the name that somebody tried, by which axes counts: Asha and asha are one person to allauth too."""
    name = (credentials or {}).get("username") or request.POST.get("login") or ""
    return str(name).replace("\x00", "")[:_NAME_CHARS].lower()


def lock_outs(now: datetime) -> list[LockOut]:
    """Return the lock-outs that hold now, newest first. Counted as axes does: all agents of an address together."""
    since = now - settings.AXES_COOLOFF_TIME
    failures: dict[tuple[str, str], tuple[int, datetime]] = {}
    for attempt in AccessAttempt.objects.filter(attempt_time__gte=since).order_by("-attempt_time")[:1_000]:
        place = attempt.username or "", str(attempt.ip_address or "")
        count, newest = failures.get(place, (0, attempt.attempt_time))
        failures[place] = count + attempt.failures_since_start, newest
    return [
        LockOut(username, ip_address, newest + settings.AXES_COOLOFF_TIME)
        for (username, ip_address), (count, newest) in failures.items()
        if count >= settings.AXES_FAILURE_LIMIT
    ]


def clear_lock_outs(user: AbstractUser, *, by: AbstractUser, now: datetime) -> None:
    """Let the person try again from everywhere."""
    with transaction.atomic():
        if reset(username=user.username.lower()):
            record("account.unlocked", user, details={"username": user.username}, by=by, now=now)
