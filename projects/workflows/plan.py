"""A workflow as the engine needs it: nodes by position, edges from each, first counters. Made once per version."""

from dataclasses import dataclass, field
from typing import Any

from projects.workflows.conditions import is_met
from projects.workflows.definition import Definition, Edge, Node

# So many final results are kept with the execution itself; others are read from its nodes.
MAX_SINKS = 20


@dataclass(frozen=True, slots=True)
class Way:
    """An edge, by positions."""

    target: int
    after: str
    when: str
    repeat: int = 0
    """How often it leads back; 0 for an edge that leads on."""


@dataclass(frozen=True)
class Plan:
    """A workflow compiled. Lists are by position."""

    nodes: tuple[Node, ...]
    ways: tuple[tuple[Way, ...], ...]
    backs: tuple[tuple[Way, ...], ...]
    """The edges by which what was done is done anew. They count nowhere else."""
    parents: tuple[tuple[int, ...], ...]
    unmet: tuple[int, ...]
    sinks: frozenset[int]
    """Nodes that nothing follows, unless there are many."""
    roles: frozenset[str]
    """Whose tasks its nodes are."""
    stages: dict[str, int]
    """Where the stages of the main job are."""
    columns: dict[str, list[Any]] = field(repr=False)
    """What START makes the nodes of."""

    def is_plain(self, position: int) -> bool:
        """Whether all edges from a node are met by its success alone."""
        return not self.backs[position] and all(way.after == "success" and not way.when for way in self.ways[position])

    def met(self, position: int, *, status: str, result: Any) -> list[bool]:
        """Decide the edges from a node that ended. Raises UndecidedCondition."""
        return [_is_met(way, status=status, result=result) for way in self.ways[position]]

    def back(self, position: int, *, status: str, result: Any) -> Way | None:
        """Return the edge by which a node that ended leads back, if one does. Raises UndecidedCondition."""
        return next((way for way in self.backs[position] if _is_met(way, status=status, result=result)), None)


def compile_plan(definition: Definition) -> Plan:
    """Compile a checked definition."""
    places = {node.key: place for place, node in enumerate(definition.nodes)}
    ways: list[list[Way]] = [[] for _ in places]
    backs: list[list[Way]] = [[] for _ in places]
    parents: list[list[int]] = [[] for _ in places]
    for edge in definition.edges:
        if edge.repeat:
            backs[places[edge.source]].append(_way(edge, places))
        else:
            ways[places[edge.source]].append(_way(edge, places))
            parents[places[edge.target]].append(places[edge.source])
    unmet = [_needed(node, len(of)) for node, of in zip(definition.nodes, parents, strict=True)]
    sinks = [place for place, of in enumerate(ways) if not of]
    return Plan(
        nodes=definition.nodes,
        ways=tuple(map(tuple, ways)),
        backs=tuple(map(tuple, backs)),
        parents=tuple(map(tuple, parents)),
        unmet=tuple(unmet),
        sinks=frozenset(sinks if len(sinks) <= MAX_SINKS else ()),
        roles=frozenset(node.role for node in definition.nodes if node.role),
        stages={node.stage: place for place, node in enumerate(definition.nodes) if node.stage},
        columns=_columns(definition.nodes, unmet, [len(of) for of in parents]),
    )


def _way(edge: Edge, places: dict[str, int]) -> Way:
    return Way(places[edge.target], edge.after, edge.when, edge.repeat)


def _needed(node: Node, incoming: int) -> int:
    if incoming == 0:
        return 0
    return {"all": incoming, "any": 1}[node.join] if isinstance(node.join, str) else node.join


def _is_met(way: Way, *, status: str, result: Any) -> bool:
    if way.after != "always" and (way.after == "success") != (status == "completed"):
        return False
    return not way.when or is_met(way.when, result, status=status)


def _columns(nodes: tuple[Node, ...], unmet: list[int], edges: list[int]) -> dict[str, list[Any]]:
    return {
        "positions": list(range(len(nodes))),
        "node_keys": [node.key for node in nodes],
        "kinds": [node.kind for node in nodes],
        "priorities": [node.priority for node in nodes],
        "unmet": unmet,
        "open": edges,
        "timeouts": [node.timeout_s for node in nodes],
    }
