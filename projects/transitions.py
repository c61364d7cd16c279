"""The one step by which every status changes. Only actions call it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import models

from projects.bulk import update_each
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


def step_all(
    objs: Sequence[models.Model],
    to: models.TextChoices,
    *,
    table: Transitions[Any],
    each: Mapping[str, Sequence[Any]] | None = None,
    **fields: Any,
) -> None:
    """Move objects of one model to `to` and set `fields`, as `step` does for one: a statement per state they are in.

    `each` has what differs between them: a value per object for each of its fields. Either all move or the caller's
    transaction has to be rolled back: StaleState, where some had moved already.
    """
    numbers_of: dict[str, list[int]] = defaultdict(list)
    for number, obj in enumerate(objs):
        check_step(obj, to, table)
        numbers_of[obj.status].append(number)  # type: ignore[attr-defined]
    each = each or {}
    for old, numbers in numbers_of.items():
        keys = [objs[number].pk for number in numbers]
        own = {name: [values[number] for number in numbers] for name, values in each.items()}
        if len(update_each(type(objs[0]), keys, each=own, where={"status": old}, status=to, **fields)) != len(keys):
            raise StaleState(f"Some of {len(numbers)} are not {old} any more. Look again and decide anew.")
    for number, obj in enumerate(objs):
        own_values = {name: values[number] for name, values in each.items()}
        for name, value in {"status": to.value, **fields, **own_values}.items():
            setattr(obj, name, value)
