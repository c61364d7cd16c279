"""The one step by which every status changes. Only actions call it."""

from typing import Any

from django.db import models

from projects.errors import IllegalTransition, StaleState
from projects.states import Transitions


def check_step(obj: models.Model, to: models.TextChoices, table: Transitions[Any]) -> None:
    """Raise IllegalTransition unless `obj.status` may become `to`."""
    status = obj.status  # type: ignore[attr-defined]
    old = type(to)(status)
    if to not in table[old]:
        raise IllegalTransition(
            f"{obj._meta.verbose_name} {obj} is {old.label.lower()}: it cannot become {to.label.lower()}."
        )


def step(obj: models.Model, to: models.TextChoices, *, table: Transitions[Any], **fields: Any) -> None:
    """Move `obj` to `to` and set `fields`, in one statement that also checks the state it was read in.

    Raises IllegalTransition when the table has no such step, StaleState when somebody moved the row meanwhile.
    Fields that change together with a status belong here, so that constraints over both hold.
    """
    check_step(obj, to, table)
    old = obj.status  # type: ignore[attr-defined]
    manager = type(obj)._default_manager
    if not manager.filter(pk=obj.pk, status=old).update(status=to, **fields):
        raise StaleState(f"{obj} is not {old} any more. Look again and decide anew.")
    for name, value in {"status": to.value, **fields}.items():
        setattr(obj, name, value)
