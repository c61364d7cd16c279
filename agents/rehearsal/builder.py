"""Build the client's application: generic code from `templates/`, and the few files that say what it is about.

`build_app` gives the first version (the demo). `storage_files`, `page_files`, `report_files` and `calendar_files` are
what later tasks add; each touches files of its own, so that tasks done in parallel merge without a conflict.
All functions return texts by path relative to the repository's root and are deterministic.
"""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache
from pathlib import Path

from .brief import AppSpec, parse
from .feedback import apply
from .fields import EntitySpec, FieldSpec
from .nouns import NOUNS, PEOPLE
from .texts import one_line

Files = dict[str, str]
_TEMPLATES = Path(__file__).parent / "templates"
_APPEND = ".append"
_WIDTH = 100


def build_app(brief: str, feedback: Sequence[str] = ()) -> Files:
    """The whole first version of the application for a brief, changed as each feedback text asks."""
    spec = parse(brief)
    for text in feedback:
        apply(spec, text)
    return {
        **template("demo"),
        "app/model.py": model_source(spec),
        "app/examples.py": examples_source(spec),
        "static/theme.css": theme_source(spec),
        "eklavya.toml": contract_source(spec),
        "README.md": readme_source(spec),
    }


def storage_files() -> Files:
    """What the storage task writes: changing and deleting records."""
    return template("storage")


def page_files() -> Files:
    """What the pages task writes: search, filter, order, detail pages, export."""
    return template("pages", base="demo")


def report_files() -> Files:
    """What the report task writes."""
    return template("report")


def calendar_files() -> Files:
    """What the calendar task writes."""
    return template("calendar")


@cache
def _read(name: str) -> tuple[tuple[str, str], ...]:
    root = _TEMPLATES / name
    paths = sorted(path for path in root.rglob("*.tmpl"))
    return tuple(
        (str(path.relative_to(root)).removesuffix(".tmpl"), path.read_text(encoding="utf-8")) for path in paths
    )


def template(name: str, *, base: str = "") -> Files:
    """The files of a template; one whose name ends in `.append` is added to the file of `base`."""
    files: Files = {}
    for path, text in _read(name):
        if path.endswith(_APPEND):
            path = path.removesuffix(_APPEND)
            text = dict(_read(base))[path] + text
        files[path] = text
    return files


def literal(text: str) -> str:
    """A Python string literal in double quotes, on one line, in ASCII and printable characters only where needed."""
    quoted = json.dumps(text, ensure_ascii=False)
    # JSON leaves these as they are; in Python source they are line breaks or invisible.
    return re.sub(
        r"[\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]", lambda m: f"\\u{ord(m[0]):04x}", quoted
    )


def _call(name: str, parts: list[str], indent: int) -> str:
    """A call on one line, or on one line per argument when it is long."""
    line = f"{name}({', '.join(parts)})"
    if len(line) + indent + 1 <= _WIDTH:
        return line
    inner = "".join(f"{' ' * (indent + 4)}{part},\n" for part in parts)
    return f"{name}(\n{inner}{' ' * indent})"


def _field_source(spec: FieldSpec) -> str:
    parts = [literal(spec.key), literal(spec.label)]
    if spec.kind != "text":
        parts.append(literal(spec.kind))
    if spec.required:
        parts.append("required=True")
    if spec.choices:
        comma = "," if len(spec.choices) == 1 else ""
        parts.append(f"choices=({', '.join(literal(choice) for choice in spec.choices)}{comma})")
    if spec.target:
        parts.append(f"target={literal(spec.target)}")
    return _call("Field", parts, 12)


def _entity_source(entity: EntitySpec) -> str:
    fields = "".join(f"            {_field_source(field)},\n" for field in entity.fields)
    return (
        "    Entity(\n"
        f"        key={literal(entity.key)},\n        path={literal(entity.path)},\n"
        f"        singular={literal(entity.singular)},\n        plural={literal(entity.plural)},\n"
        f"        fields=(\n{fields}        ),\n    ),\n"
    )


def model_source(spec: AppSpec) -> str:
    """`app/model.py`: the one file that says what this application is about."""
    entities = "".join(_entity_source(entity) for entity in spec.entities)
    changes = "".join(f"    {literal(change)},\n" for change in spec.changes)
    shown = f"(\n{changes})" if changes else "()"
    return f'''"""What this application is about: its name and the records it keeps."""

from .schema import Entity, Field

NAME = {literal(spec.name)}
TAGLINE = {literal(spec.tagline)}
CURRENCY = {literal(spec.currency)}

# Shown on the overview, so that a reviewer sees what is new.
CHANGES: tuple[str, ...] = {shown}

ENTITIES = (
{entities})

_BY_KEY = {{item.key: item for item in ENTITIES}}


def entity(key: str) -> Entity:
    """The entity with this key. Raises KeyError."""
    return _BY_KEY[key]
'''


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
        pairs = [f"{literal(field.key)}: {literal(_example(entity, field, number))}" for field in entity.fields]
        line = f"        {{{', '.join(pairs)}}},\n"
        if len(line) > _WIDTH:
            line = "        {\n" + "".join(f"            {pair},\n" for pair in pairs) + "        },\n"
        rows += line
    return rows


def _example(entity: EntitySpec, field: FieldSpec, number: int) -> str:
    if field is entity.fields[0]:
        names = NOUNS[entity.noun].examples if entity.noun else None
        return names[number] if names else f"{('First', 'Second', 'Third')[number]} {entity.singular.lower()}"
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
        case _:
            return _EXAMPLES.get(field.kind, ("", "", ""))[number]


def _date(entity: EntitySpec, field: FieldSpec, number: int) -> str:
    """Each date of a record is a week after the one before; the last record's "returned" has not happened yet."""
    dates = [one.key for one in entity.fields if one.kind == "date"]
    position = dates.index(field.key)
    if number == 2 and position and field.key.endswith("ed"):
        return ""
    return (date(2026, 11, 3) + timedelta(days=3 * number + 7 * position)).isoformat()


_EXAMPLES = {
    "time": ("09:00", "13:30", "18:15"),
    "money": ("12.50", "48.00", "120.00"),
    "number": ("2", "5", "12"),
    "phone": ("+49 30 1234567", "+44 20 7946 0018", "+1 555 0100"),
    "flag": ("yes", "", "yes"),
}


def contract_source(spec: AppSpec) -> str:
    """`eklavya.toml`: how the application is tested, started and checked."""
    return f"""[project]
name = {json.dumps(spec.name, ensure_ascii=False)}

[commands]
test = "python3 -m unittest discover -s tests -t ."
start = "python3 -m app"

[health]
path = "/"
"""


def readme_source(spec: AppSpec) -> str:
    """`README.md` for the client."""
    kept = "".join(
        f"- **{markdown(entity.plural)}** (`/{entity.path}`): {_labels(entity)}\n" for entity in spec.entities
    )
    changed = "".join(f"- {markdown(change)}\n" for change in spec.changes)
    changes = f"\n## What the feedback led to\n\n{changed}" if changed else ""
    return f"""# {markdown(spec.name)}

{markdown(spec.tagline)}

## Start

Python 3.11 is all it needs.

    python3 -m app

Then open http://127.0.0.1:8080. `HOST`, `PORT` and `DATA_DIR` (default `./data`) change where it listens and where the
data lies; `EXAMPLES=no` starts without example records. To back up, stop it and copy the data directory.

## What it keeps

{kept}{changes}
## How it is made

`app/model.py` says what the application is about. `app/schema.py` turns forms into values, `app/store.py` keeps them in
SQLite, `app/pages.py` and `app/layout.py` make the pages, `app/server.py` speaks HTTP. Each module in `app/features/`
adds pages of its own.

    python3 -m unittest discover -s tests -t .
"""


def _labels(entity: EntitySpec) -> str:
    return markdown(", ".join(field.label for field in entity.fields))


def markdown(text: str) -> str:
    """Text without meaning in Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", text)


def _luminance(rgb: tuple[float, float, float]) -> float:
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def _lightness(hue: int, saturation: float, *, against: float, darker: bool) -> int:
    """The lightness in percent at which a hue has a contrast of 4.8 (WCAG AA asks 4.5) with a luminance."""
    for percent in range(46, 5, -1) if darker else range(54, 96):
        light = _luminance(colorsys.hls_to_rgb(hue / 360, percent / 100, saturation))
        high, low = max(light, against), min(light, against)
        if (high + 0.05) / (low + 0.05) >= 4.8:
            return percent
    return 6 if darker else 95


def theme_source(spec: AppSpec) -> str:
    """`static/theme.css`: the colours, readable in light and in dark."""
    hue = spec.hue
    accent = _lightness(hue, 0.62, against=0.94, darker=True)
    light = _lightness(hue, 0.7, against=0.02, darker=False)
    return f"""/* The colours of this application. */
:root {{
  color-scheme: light dark;
  --accent: hsl({hue} 62% {accent}%);
  --accent-deep: hsl({(hue + 18) % 360} 62% {max(accent - 10, 4)}%);
  --accent-ink: hsl({hue} 62% {max(accent - 4, 4)}%);
  --on-accent: #fff;
  --ground: hsl({hue} 25% 97%);
  --card: #fff;
  --tint: hsl({hue} 45% 94%);
  --line: hsl({hue} 18% 88%);
  --edge: hsl({hue} 10% 52%);
  --ink: hsl({hue} 20% 13%);
  --soft: hsl({hue} 10% 38%);
  --alarm: #b3261e;
}}

@media (prefers-color-scheme: dark) {{
  :root {{
    --accent-ink: hsl({hue} 70% {max(light, 72)}%);
    --ground: hsl({hue} 14% 9%);
    --card: hsl({hue} 12% 13%);
    --tint: hsl({hue} 18% 19%);
    --line: hsl({hue} 10% 24%);
    --edge: hsl({hue} 8% 50%);
    --ink: hsl({hue} 10% 93%);
    --soft: hsl({hue} 8% 70%);
    --alarm: #ff9a92;
  }}
}}
"""


def topic_files(key: str, title: str, description: str) -> Files:
    """A page of its own for any other task: what was asked for, and the figures beside it."""
    key = key.rstrip("_")
    values = {
        "@KEY@": key,
        "@PATH@": key.replace("_", "-"),
        "@TITLE@": literal(title),
        "@TEXT@": literal(one_line(description, 300)),
    }
    files = {}
    for path, text in template("topic").items():
        for mark, value in values.items():
            path, text = path.replace(mark, value), text.replace(mark, value)
        files[path] = text
    return files
