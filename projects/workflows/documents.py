"""Workflows as files: JSON and YAML in, and out again."""

import json
from dataclasses import dataclass
from typing import Any

import yaml

from projects.workflows.definition import Definition, InvalidWorkflow

MAX_BYTES = 8 * 2**20
# Of YAML: each costs half a kilobyte while it is read. The largest workflow has some 500,000.
MAX_EVENTS = 1_000_000
MAX_DEPTH = 100
MAX_INTEGER_CHARS = 1_000
_FIELDS = {"key", "name", "description", "nodes", "edges"}


@dataclass(frozen=True)
class Document:
    """A workflow as it is handed around: what it is called and what it is made of."""

    key: str
    name: str
    description: str
    definition: Definition


def read(text: str) -> Document:
    """Read a workflow from JSON or YAML. Raises InvalidWorkflow with all that is wrong."""
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise InvalidWorkflow([f"The file is over {MAX_BYTES // 2**20} MB."])
    data = _parsed(text)
    if not isinstance(data, dict):
        raise InvalidWorkflow(["It is no object with “key”, “name”, “nodes” and “edges”."])
    problems = [f"It has the unknown field “{name[:40]}”." for name in sorted(set(map(str, data)) - _FIELDS)]
    words = {name: data.get(name, "") for name in ("key", "name", "description")}
    problems += [f"“{name}” is no text." for name, value in words.items() if not isinstance(value, str)]
    try:
        definition = Definition.from_json({name: data[name] for name in ("nodes", "edges") if name in data})
    except InvalidWorkflow as error:
        if not problems:
            raise
        raise InvalidWorkflow([*problems, *error.problems]) from error
    if problems:
        raise InvalidWorkflow(problems)
    return Document(**words, definition=definition)


def as_json(document: Document) -> str:
    """Write a workflow as JSON."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False) + "\n"


def as_yaml(document: Document) -> str:
    """Write a workflow as YAML."""
    text: str = yaml.safe_dump(_plain(document), sort_keys=False, allow_unicode=True, width=120)
    return text


def composed(text: str) -> yaml.Node | None:
    """Return the nodes of YAML or JSON with their places, None for what cannot be read or nests too deep to be."""
    try:
        _look_through(text)  # the composer in C calls itself for each level, without end
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, InvalidWorkflow, ValueError):
        return None


def _plain(document: Document) -> dict[str, Any]:
    words = {"key": document.key, "name": document.name, "description": document.description}
    return words | document.definition.to_json()


def _parsed(text: str) -> object:
    """Parse JSON, which is quick, or else YAML: plain values, and no aliases, by which ten lines become gigabytes.

    Raises InvalidWorkflow, whatever the text is.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise InvalidWorkflow(["It nests too deep."]) from None
    except ValueError:
        pass
    try:
        _look_through(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InvalidWorkflow([f"It is neither JSON nor YAML: {' '.join(str(error).split())[:300]}"]) from None
    except (ValueError, OverflowError) as error:  # a date that is none, a number of 5,000 digits, half a character
        raise InvalidWorkflow([f"It holds what cannot be read: {' '.join(str(error).split())[:300]}"]) from None


def _look_through(text: str) -> None:
    """Raise InvalidWorkflow for YAML that would grow or nest without end, before anything is made of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidWorkflow(["Aliases (*name) are not allowed in it."])
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidWorkflow(["It nests too deep."])
        if count > MAX_EVENTS:
            raise InvalidWorkflow(["It has too many parts to be a workflow."])


class _Loader(yaml.CSafeLoader):
    """Knows plain values, but no whole numbers that take for ever to read (1:1:1…) or cannot be written (0xfff…)."""

    def integer(self, node: yaml.ScalarNode) -> int:
        """Read a whole number. Raises ValueError for a huge one."""
        if len(node.value) > MAX_INTEGER_CHARS:
            raise ValueError(f"a number of {len(node.value):,} characters")
        value: int = self.construct_yaml_int(node)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)


def _no_number(name: str) -> object:
    raise InvalidWorkflow([f"{name} is no number of JSON."])
