"""Build the client's application: generic code from `templates/`, and the few files that say what it is about.

`build_app` gives the first version (the demo). `storage_files`, `page_files`, `report_files` and `calendar_files` are
what later tasks add; each touches files of its own, so that tasks done in parallel merge without a conflict.
All functions return texts by path relative to the repository's root and are deterministic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .brief import AppSpec, parse
from .examples import examples_source
from .feedback import apply
from .fields import EntitySpec, FieldSpec
from .source import WIDTH, literal
from .texts import one_line
from .theme import theme_source

Files = dict[str, str]
_TEMPLATES = Path(__file__).parent / "templates"
_APPEND = ".append"


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


def _call(name: str, parts: list[str], indent: int) -> str:
    """A call on one line, or on one line per argument when it is long."""
    line = f"{name}({', '.join(parts)})"
    if len(line) + indent + 1 <= WIDTH:
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
