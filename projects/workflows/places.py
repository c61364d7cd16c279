"""Where in a file a problem is: its line, found by what the problem's sentence names."""

import re

import yaml

from projects.workflows.definition import InvalidWorkflow
from projects.workflows.documents import composed

# Of a larger file only the sentences are told.
MAX_CHARS = 2**20
_PARSER = re.compile(r"\bline (\d+), column \d+")
_ROW = re.compile(r"\b(node|edge) (\d+)\b", re.IGNORECASE)
_EDGE = re.compile(r"“([^”]*)” → “([^”]*)”")
_NAME = re.compile(r"“([^”]*)”")
_WORD = re.compile(r"\w+")


def with_lines(error: InvalidWorkflow, text: str) -> InvalidWorkflow:
    """Return the error with the line before each problem that has one."""
    places = _Places(text)
    return error.reworded(lambda problem: f"Line {line}: {problem}" if (line := places.line_of(problem)) else problem)


class _Places:
    """The lines of a file's nodes, edges and their fields; of none where it cannot be read."""

    def __init__(self, text: str) -> None:
        self._rows: dict[str, list[dict[str, int]]] = {"node": [], "edge": []}
        self._named: dict[tuple[str, ...], dict[str, int]] = {}
        self._top: dict[str, int] = {}
        root = composed(text) if len(text) <= MAX_CHARS else None
        if isinstance(root, yaml.MappingNode):
            self._read(root)

    def line_of(self, problem: str) -> int | None:
        """Return the line that a problem is about: of the field, if it says which, else of the node or edge."""
        if found := _PARSER.search(problem):
            return int(found[1])
        if row := self._row(problem):
            words = _WORD.findall(problem)
            return next((row[word] for word in reversed(words) if word in row), row[""])
        return next((self._top[name] for name in _NAME.findall(problem) if name in self._top), None)

    def _row(self, problem: str) -> dict[str, int] | None:
        if found := _ROW.search(problem):
            rows, number = self._rows[found[1].lower()], int(found[2])
            return rows[number - 1] if 0 < number <= len(rows) else None
        if (edge := _EDGE.search(problem)) and (row := self._named.get((edge[1], edge[2]))):
            return row
        return next((self._named[(name,)] for name in _NAME.findall(problem) if (name,) in self._named), None)

    def _read(self, root: yaml.MappingNode) -> None:
        for key, value in root.value:
            self._top[str(key.value)] = _line(key)
            kind = str(key.value).removesuffix("s")
            if isinstance(value, yaml.SequenceNode) and kind in self._rows:
                for item in value.value:
                    self._add(kind, item)

    def _add(self, kind: str, item: yaml.Node) -> None:
        row = {"": _line(item)}
        self._rows[kind].append(row)
        if not isinstance(item, yaml.MappingNode):
            return
        row |= {str(key.value): _line(key) for key, _ in item.value}
        said = {str(key.value): str(value.value) for key, value in item.value}
        names = ("key",) if kind == "node" else ("from", "to")
        # The last of several is the one too many.
        self._named[tuple(said.get(name, "") for name in names)] = row


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
