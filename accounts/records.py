"""The way up to the audit log, which is a higher app's: actions say what they did, `eklavya` writes it down.

The recorder runs inside the action's transaction, so that the change and its record commit together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models


@dataclass(frozen=True)
class Record:
    """What was done: "noun.verb", to what, by whom (None: by the platform)."""

    action: str
    obj: models.Model
    details: dict[str, Any]
    by: AbstractUser | None
    now: datetime


Recorder = Callable[[Record], None]
_recorders: list[Recorder] = []


def register(recorder: Recorder) -> None:
    """Have `recorder` write the records down; the one before it does so no more."""
    _recorders[:] = [recorder]


def record(
    action: str,
    obj: models.Model,
    *,
    details: dict[str, Any] | None = None,
    by: AbstractUser | None,
    now: datetime,
) -> None:
    """Write down what was done. Raises RuntimeError while nobody does: nothing may happen unrecorded."""
    if not _recorders:
        raise RuntimeError("No recorder is registered: eklavya.wiring.connect does it.")
    _recorders[0](Record(action, obj, details or {}, by, now))
