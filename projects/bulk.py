"""Writing many rows at once: new ones, and each changed to values of its own."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from django.db import connection, models

# From so many on, COPY takes a quarter of the processor time of an INSERT, though it goes to the server once more.
_MANY = 12


def insert_all(model: type[models.Model], rows: Sequence[models.Model]) -> None:
    """Save new rows of a model that have their primary keys. None of them may be there already: IntegrityError."""
    if len(rows) < _MANY:
        model._default_manager.bulk_create(rows)
        return
    fields = [field for field in model._meta.concrete_fields if not field.generated]
    table = connection.ops.quote_name(model._meta.db_table)
    statement = f"COPY {table} ({', '.join(map(_quoted, fields))}) FROM STDIN"
    # What models compute when they save belongs to no field but JSON; the others are as the driver writes them.
    values_of = attrgetter(*(field.attname for field in fields))
    prepared = [(place, field) for place, field in enumerate(fields) if isinstance(field, models.JSONField)]
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            values = list(values_of(row))
            for place, field in prepared:
                values[place] = _prepared(field, values[place])
            copy.write_row(values)
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias


def update_each(
    model: type[models.Model],
    keys: Sequence[Any],
    *,
    each: Mapping[str, Sequence[Any]],
    where: Mapping[str, Any],
    **fields: Any,
) -> set[Any]:
    """Update the rows of these primary keys that are still as `where` says; return the keys of those that were.

    `each` has, for a field, the value of each row; `fields` the values that are the same for all. Names are those of
    fields with a column of their own; values what the field takes.
    """
    own = {name: _field(model, name) for name in each}
    key = model._meta.pk
    same = [(_field(model, name), value) for name, value in fields.items()]
    asked = [(_field(model, name), value) for name, value in where.items()]
    changes = [f"{_quoted(field)} = own.{_quoted(field)}" for field in own.values()]
    changes += [f"{_quoted(field)} = %s" for field, _ in same]
    conditions = [f"row.{_quoted(field)} IS NOT DISTINCT FROM %s" for field, _ in asked]
    columns = [key, *own.values()]
    arrays = ", ".join(f"%s::{_type(field)}[]" for field in columns)
    statement = (
        f"UPDATE {connection.ops.quote_name(model._meta.db_table)} AS row SET {', '.join(changes)}"
        f" FROM unnest({arrays}) AS own ({', '.join(_quoted(field) for field in columns)})"
        f" WHERE {' AND '.join([f'row.{_quoted(key)} = own.{_quoted(key)}', *conditions])}"
        f" RETURNING row.{_quoted(key)}"
    )
    values = [_prepared(field, value) for field, value in same]
    values += [list(keys), *([_prepared(own[name], value) for value in given] for name, given in each.items())]
    values += [_prepared(field, value) for field, value in asked]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return {found for (found,) in cursor.fetchall()}


def _type(field: "models.Field[Any, Any]") -> str:
    """Return a field's type in the database: without its length, at which a cast would cut in silence."""
    return "text" if isinstance(field, models.CharField) else str(field.db_type(connection))


def _quoted(field: "models.Field[Any, Any]") -> str:
    assert field.column is not None
    return connection.ops.quote_name(field.column)


def _field(model: type[models.Model], name: str) -> "models.Field[Any, Any]":
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field), name
    return field


def _prepared(field: "models.Field[Any, Any]", value: Any) -> Any:
    return field.get_db_prep_save(value, connection)
