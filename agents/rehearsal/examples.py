"""Example records, which make a new application look alive."""

from __future__ import annotations

from datetime import date, timedelta

from .brief import AppSpec
from .fields import EntitySpec, FieldSpec
from .nouns import NOUNS, PEOPLE
from .source import WIDTH, literal


def examples_source(spec: AppSpec) -> str:
    """`app/examples.py`: records that make a new application look alive."""
    ordered = sorted(spec.entities, key=lambda entity: any(field.kind == "ref" for field in entity.fields))
    blocks = "".join(f"    {literal(entity.key)}: [\n{_example_rows(entity)}    ],\n" for entity in ordered)
    return f'''"""Example records for a new, empty store. EXAMPLES=no in the environment starts without them."""

from . import model
from .store import Store

# Texts as a visitor would type them, by entity; a reference names the record by its number.
EXAMPLES: dict[str, list[dict[str, str]]] = {{
{blocks}}}


def fill(store: Store) -> None:
    """Add the examples to an empty store."""
    for key, forms in EXAMPLES.items():
        entity = model.entity(key)
        for form in forms:
            values, errors = entity.clean(form)
            if errors:
                raise ValueError(f"an example of {{key}} is invalid: {{errors}}")
            store.add(entity, values)
'''


def _example_rows(entity: EntitySpec) -> str:
    rows = ""
    for number in range(3):
        pairs = [f"{literal(field.key)}: {literal(example(entity, field, number))}" for field in entity.fields]
        line = f"        {{{', '.join(pairs)}}},\n"
        if len(line) > WIDTH:
            line = "        {\n" + "".join(f"            {pair},\n" for pair in pairs) + "        },\n"
        rows += line
    return rows


def example(entity: EntitySpec, field: FieldSpec, number: int) -> str:
    if field is entity.fields[0]:
        names = NOUNS[entity.noun].examples if entity.noun else None
        return names[number] if names else f"{_ORDINALS[number]} {entity.singular.lower()}"
    match field.kind:
        case "choice":
            return field.choices[number % len(field.choices)]
        case "ref":
            return str(number + 1)
        case "email":
            return f"{PEOPLE[number].split()[0].lower()}@example.org"
        case "date":
            return _date(entity, field, number)
        case "text" if field.key.endswith(("number", "code", "plate", "sku", "isbn", "shelf")):
            return f"{field.label[0].upper()}-{101 + number}"
        case "text":  # such as the cake of an order, which an empty column would hide
            return f"{_ORDINALS[number]} {field.label.lower()}"
        case _:
            return _EXAMPLES.get(field.kind, ("", "", ""))[number]


def _date(entity: EntitySpec, field: FieldSpec, number: int) -> str:
    """Each date of a record is a week after the one before; the last record's "returned" has not happened yet."""
    dates = [one.key for one in entity.fields if one.kind == "date"]
    position = dates.index(field.key)
    if number == 2 and position and field.key.endswith("ed"):
        return ""
    return (date(2026, 11, 3) + timedelta(days=3 * number + 7 * position)).isoformat()


_ORDINALS = ("First", "Second", "Third")
_EXAMPLES = {
    "time": ("09:00", "13:30", "18:15"),
    "money": ("12.50", "48.00", "120.00"),
    "number": ("2", "5", "12"),
    "phone": ("+49 30 1234567", "+44 20 7946 0018", "+1 555 0100"),
    "flag": ("yes", "", "yes"),
}
