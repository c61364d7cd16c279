"""What `manage.py check --database default` says of the database's upkeep."""

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Tags, register

from agents import upkeep

_NAMED = 10


@register(Tags.database)
def check_upkeep(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of tables whose dead rows or statistics nobody looks after. Beat does, within the hour."""
    if "default" not in (databases or ()):
        return []
    found = [table.name for table in upkeep.overdue()]
    if not found:
        return []
    named = ", ".join(found[:_NAMED]) + (" …" if len(found) > _NAMED else "")
    hint = "Beat does it within the hour (agents.tasks.keep_statistics); at once: manage.py upkeep, as their owner."
    return [checks.Warning(f"Overdue for VACUUM or ANALYZE: {named}.", hint=hint, id="agents.W001")]
