"""Plain settings: columns that no lifecycle owns, changed by people, with a record of what they were."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models

from projects import audit
from projects.actors import Actor


def add_row(row: models.Model, *, project_id: UUID | None = None, by: Actor, now: datetime) -> None:
    """Save a new row of a table without a lifecycle, such as a price."""
    with audit.journal(by=by, now=now) as journal:
        row.save(force_insert=True)
        journal.add(f"{row._meta.model_name}.added", project_id=project_id, obj=row, details={"row": str(row)})


def change_row(
    row: models.Model, changes: dict[str, Any], *, project_id: UUID | None = None, by: Actor, now: datetime
) -> None:
    """Set the named columns of a row, which must not be its status. The record has each with its old value."""
    assert changes.keys().isdisjoint({"status", row._meta.pk.attname if row._meta.pk else "id"}), changes
    with audit.journal(by=by, now=now) as journal:
        before = type(row)._default_manager.select_for_update().values(*changes).get(pk=row.pk)
        for name, value in changes.items():
            setattr(row, name, value)
        row.save(update_fields=list(changes))
        details = {name: {"from": before[name], "to": value} for name, value in changes.items()}
        journal.add(f"{row._meta.model_name}.changed", project_id=project_id, obj=row, details=details)
