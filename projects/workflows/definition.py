"""What a workflow is: nodes, edges and the conditions on them, as data. Pure functions, no database.

    {"nodes": [{"key": "fix", "role": "developer", "title": "Fix it"}, {"key": "test", "role": "tester", …}],
     "edges": [{"from": "fix", "to": "test", "when": "result.changed == true"}]}

`docs/workflows.md` explains each field.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from projects.errors import DomainError
from projects.plans import find_cycle
from projects.roles import Role
from projects.states import Stage
from projects.workflows.conditions import InvalidCondition, check_condition

MAX_NODES = 10_000
MAX_EDGES = 50_000
MAX_RETRIES = 20
MAX_SECONDS = 86_400
MAX_REPEATS = 1_000
MAX_LEADING_BACK = 100
MAX_PROBLEMS = 50
MAX_PARAMS_DEPTH = 90
MAX_INTEGER_BITS = 64
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FUNCTION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_OUTCOMES = ("success", "failure", "always")


class InvalidWorkflow(DomainError):
    """The workflow cannot be used. `problems` has a sentence for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = len(problems) - MAX_PROBLEMS
        shown = [*problems[:MAX_PROBLEMS], f"And {more:,} more."] if more > 0 else problems
        self.problems = tuple(shown)
        super().__init__("The workflow cannot be used: " + " ".join(shown))

    def reworded(self, word: Callable[[str], str]) -> "InvalidWorkflow":
        """Return the same with other words for each problem."""
        found = InvalidWorkflow([word(problem) for problem in self.problems[:MAX_PROBLEMS]])
        found.problems += self.problems[MAX_PROBLEMS:]
        return found


def is_key(text: str) -> bool:
    """Whether a workflow or a node may be called so."""
    return _KEY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Node:
    """A step: a task of a role, a registered function that a worker calls, or a stage of the main job, which the
    platform carries out. Exactly one of the three is named."""

    key: str
    title: str = ""
    role: str = ""
    brief: str = ""
    function: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    stage: str = ""
    join: str | int = "all"
    """How many of the edges that lead here must be met: "all", "any" or a number."""
    retries: int = 0
    """How often it is tried again after a failure."""
    retry_after_s: float = 1.0
    timeout_s: int = 3600
    """After so long its runner is taken for lost, and another may start it again."""
    priority: int = 0

    @property
    def kind(self) -> str:
        """Who does it: "task", "function" or "stage"."""
        if self.function:
            return "function"
        return "stage" if self.stage else "task"


@dataclass(frozen=True, slots=True)
class Edge:
    """The way from one node to another, taken `after` (success, failure, always) and where `when` is met.

    One with `repeat` leads back to a node before its own: what lies between is done anew, at most so many times.
    """

    source: str
    target: str
    after: str = "success"
    when: str = ""
    repeat: int = 0


@dataclass(frozen=True)
class Definition:
    """A workflow's nodes and edges, as written."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def from_json(cls, data: object) -> "Definition":
        """Read a definition and check it. Raises InvalidWorkflow with all that is wrong."""
        problems: list[str] = []
        found = cls(*_read(data, problems))
        problems += _problems(found)
        if problems:
            raise InvalidWorkflow(problems)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return it as it was written, without what is as usual."""
        return {"nodes": [_sparse(node, _NODE_FIELDS) for node in self.nodes], "edges": [_edge(e) for e in self.edges]}


_NODE_FIELDS: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "title": (str,),
    "role": (str,),
    "brief": (str,),
    "function": (str,),
    "params": (dict,),
    "stage": (str,),
    "join": (str, int),
    "retries": (int,),
    "retry_after_s": (int, float),
    "timeout_s": (int,),
    "priority": (int,),
}
_EDGE_FIELDS: dict[str, tuple[type, ...]] = {
    "from": (str,),
    "to": (str,),
    "after": (str,),
    "when": (str,),
    "repeat": (int,),
}


def _read(data: object, problems: list[str]) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    if not isinstance(data, dict):
        problems.append("It is no object with “nodes” and “edges”.")
        return (), ()
    for name in sorted(set(map(str, data)) - {"nodes", "edges"}):
        problems.append(f"It has the unknown field “{name[:40]}”.")
    nodes, edges = data.get("nodes"), data.get("edges", [])
    if not isinstance(nodes, list) or not isinstance(edges, list):
        problems.append("“nodes” and “edges” must be lists.")
        return (), ()
    if len(nodes) > MAX_NODES or len(edges) > MAX_EDGES:
        problems.append(
            f"It has {len(nodes):,} nodes and {len(edges):,} edges; {MAX_NODES:,} and {MAX_EDGES:,} are allowed."
        )
        return (), ()
    fields = [row for number, row in enumerate(nodes, 1) if _has_shape(row, f"Node {number}", _NODE_FIELDS, problems)]
    ways = [row for number, row in enumerate(edges, 1) if _has_shape(row, f"Edge {number}", _EDGE_FIELDS, problems)]
    return tuple(Node(**row) for row in fields if "key" in row), tuple(
        Edge(row["from"], row["to"], row.get("after", "success"), row.get("when", ""), row.get("repeat", 0))
        for row in ways
    )


def _has_shape(row: object, name: str, fields: Mapping[str, tuple[type, ...]], problems: list[str]) -> bool:
    if not isinstance(row, dict):
        problems.append(f"{name} is no object.")
        return False
    before = len(problems)
    needed = ("key",) if fields is _NODE_FIELDS else ("from", "to")
    problems += [f"{name} has no “{key}”." for key in needed if key not in row]
    for key, value in row.items():
        if key not in fields:
            problems.append(f"{name} has the unknown field “{str(key)[:40]}”.")
        elif not isinstance(value, fields[key]) or isinstance(value, bool):
            problems.append(f"“{key}” of {name.lower()} is no {' or '.join(kind.__name__ for kind in fields[key])}.")
    return len(problems) == before


def _problems(found: Definition) -> list[str]:
    if not found.nodes:
        return ["It has no nodes; it needs at least one."]
    incoming = Counter(edge.target for edge in found.edges if not edge.repeat)
    problems = [*_repeated(found), *_edge_problems(found)]
    for node in found.nodes:
        problems += _node_problems(node, incoming[node.key])
    return problems or list(_graph_problems(found))


def _repeated(found: Definition) -> Iterator[str]:
    for key, count in Counter(node.key for node in found.nodes).items():
        if count > 1:
            yield f"The key “{key[:64]}” is used {count} times."
    for (source, target), count in Counter((edge.source, edge.target) for edge in found.edges).items():
        if count > 1:
            yield f"The edge “{source[:64]}” → “{target[:64]}” is there {count} times."


def _node_problems(node: Node, incoming: int) -> Iterator[str]:
    name = f"Node “{node.key[:64]}”"
    if not is_key(node.key):
        yield f"The key “{node.key[:64]}” is not 1 to 64 of a-z, 0-9, - and _, starting with a letter or digit."
    if [bool(node.role), bool(node.function), bool(node.stage)].count(True) != 1:
        yield f"{name} must name either a role or a function, or in the main job a stage."
    elif node.stage and node.stage not in Stage:
        yield f"{name} names the unknown stage “{node.stage[:40]}”; use one of: {', '.join(Stage)}."
    elif node.role and node.role not in Role:
        yield f"{name} names the unknown role “{node.role[:40]}”; use one of: {', '.join(sorted(Role))}."
    elif node.function and not _FUNCTION.fullmatch(node.function[:200]):
        yield f"“{node.function[:40]}” of {name.lower()} is no name of a function."
    if node.role and not node.title.strip():
        yield f"{name} has no title."
    if not _is_json(node.params):
        why = "hold what is no JSON, such as a date without quotes, or a huge number, or nest too deep"
        yield f"The params of {name.lower()} {why}."
    if len(node.title) > 255 or len(node.brief) > 20_000:
        yield f"The title of {name.lower()} is over 255 characters, or its brief over 20,000."
    yield from _bounds(node, name, incoming)


def _is_json(value: object, depth: int = 1) -> bool:
    """Whether a value is kept as it is: YAML also knows dates, sets, numbers that are none, and whole ones that Python
    reads (0xfff…) but does not write in decimals."""
    if depth > MAX_PARAMS_DEPTH:
        return False
    match value:
        case dict():
            return all(isinstance(key, str) and _is_json(item, depth + 1) for key, item in value.items())
        case list():
            return all(_is_json(item, depth + 1) for item in value)
        case float():
            return isfinite(value)
        case int():
            return value.bit_length() <= MAX_INTEGER_BITS
        case _:
            return value is None or isinstance(value, str)


def _bounds(node: Node, name: str, incoming: int) -> Iterator[str]:
    if isinstance(node.join, str):
        if node.join not in {"all", "any"}:
            yield f"The join of {name.lower()} is not “all”, “any” or a number."
    elif not 1 <= node.join <= max(incoming, 1):
        yield f"{name} waits for {node.join} of its {incoming} edges."
    if not 0 <= node.retries <= MAX_RETRIES:
        yield f"The retries of {name.lower()} are not between 0 and {MAX_RETRIES}."
    if not 0 <= node.retry_after_s <= MAX_SECONDS or not 1 <= node.timeout_s <= MAX_SECONDS:
        yield f"The times of {name.lower()} are not between 0 (for timeout_s 1) and {MAX_SECONDS:,} seconds."
    if abs(node.priority) > 1000:
        yield f"The priority of {name.lower()} is not between -1,000 and 1,000."


def _edge_problems(found: Definition) -> Iterator[str]:
    keys = {node.key for node in found.nodes}
    for edge in found.edges:
        name = f"“{edge.source[:64]}” → “{edge.target[:64]}”"
        for key in (edge.source, edge.target):
            if key not in keys:
                yield f"The edge {name} names “{key[:64]}”, which is no node."
        if edge.after not in _OUTCOMES:
            yield f"The edge {name} is taken after “{edge.after[:20]}”; use one of: {', '.join(_OUTCOMES)}."
        if not 0 <= edge.repeat <= MAX_REPEATS:
            yield f"The repeat of the edge {name} is not between 1 and {MAX_REPEATS:,}."
        elif edge.repeat and edge.after == "success" and not edge.when:
            yield f"The edge {name} would always lead back: say when."
        if edge.when:
            try:
                check_condition(edge.when)
            except InvalidCondition as error:
                yield f"The edge {name}: {error}"


def _graph_problems(found: Definition) -> Iterator[str]:
    parents: dict[str, list[str]] = {node.key: [] for node in found.nodes}
    for edge in found.edges:
        if not edge.repeat:
            parents[edge.target].append(edge.source)
    # Without a cycle every node is reached from one that waits for nothing; behind a cycle none is.
    backs = [edge for edge in found.edges if edge.repeat]
    if cycle := find_cycle(parents):
        shown = [*cycle[:10], "…", cycle[-1]] if len(cycle) > 12 else cycle
        yield f"Its nodes wait for each other in a circle: {' → '.join(shown)}."
        if unreachable := _unreachable(found, parents):
            listed = ", ".join(f"“{key}”" for key in unreachable[:10])
            yield f"{len(unreachable):,} nodes can never be reached: {listed}{'…' if len(unreachable) > 10 else '.'}"
    elif len(backs) > MAX_LEADING_BACK:
        yield f"{len(backs):,} of its edges repeat; {MAX_LEADING_BACK} may."
    else:
        yield from _back_problems(backs, parents)


def _back_problems(backs: Sequence[Edge], parents: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for edge in backs:
        if edge.target not in before(parents, edge.source):
            yield f"The edge “{edge.source}” → “{edge.target}” repeats, and leads to no node that comes before it."


def before(parents: Mapping[str, Sequence[str]], key: str) -> set[str]:
    """Return a node and all that come before it."""
    found, left = {key}, [key]
    while left:
        for parent in parents[left.pop()]:
            if parent not in found:
                found.add(parent)
                left.append(parent)
    return found


def _unreachable(found: Definition, parents: Mapping[str, Sequence[str]]) -> list[str]:
    children: dict[str, list[str]] = {key: [] for key in parents}
    for edge in found.edges:
        if not edge.repeat:
            children[edge.source].append(edge.target)
    reached = {key for key, of in parents.items() if not of}
    open_keys = list(reached)
    while open_keys:
        for child in children[open_keys.pop()]:
            if child not in reached:
                reached.add(child)
                open_keys.append(child)
    return [node.key for node in found.nodes if node.key not in reached]


def _sparse(node: Node, fields: Mapping[str, object]) -> dict[str, Any]:
    usual = Node(key="")
    row = {name: getattr(node, name) for name in fields}
    return {name: value for name, value in row.items() if name == "key" or value != getattr(usual, name)}


def _edge(edge: Edge) -> dict[str, Any]:
    row = {"from": edge.source, "to": edge.target}
    unusual = {"after": edge.after if edge.after != "success" else "", "when": edge.when, "repeat": edge.repeat}
    return row | {name: value for name, value in unusual.items() if value}
