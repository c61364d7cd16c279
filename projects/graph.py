"""Where the tasks of a plan are drawn: columns by depth, edges from left to right. Plain geometry, in pixels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from django.urls import reverse

BOX_W, BOX_H = 196, 52
GAP_X, GAP_Y = 56, 18
MARGIN = 2
TITLE_CHARS = 27


@dataclass(frozen=True)
class Node:
    """A task as it is drawn. `status` and `url` are empty while it is only planned."""

    key: str
    title: str
    role: str
    depends_on: tuple[str, ...]
    estimate_minutes: int = 0
    status: str = ""
    url: str = ""

    @property
    def short_title(self) -> str:
        """The title, cut to the width of a box."""
        return self.title if len(self.title) <= TITLE_CHARS else f"{self.title[: TITLE_CHARS - 1]}…"


@dataclass(frozen=True)
class Box:
    """A node and the place of its upper left corner."""

    node: Node
    x: int
    y: int

    @property
    def text_x(self) -> int:
        """Where its words begin."""
        return self.x + 24

    @property
    def title_y(self) -> int:
        """The base line of its title."""
        return self.y + 22

    @property
    def sub_y(self) -> int:
        """The base line of its second line."""
        return self.y + 40

    @property
    def dot(self) -> tuple[int, int]:
        """The middle of its dot."""
        return self.x + 13, self.y + 18


@dataclass(frozen=True)
class Edge:
    """A curve from a task to one that waits for it."""

    path: str
    is_done: bool


@dataclass(frozen=True)
class Graph:
    """A drawing: all of it fits into width x height."""

    boxes: list[Box]
    edges: list[Edge]
    width: int
    height: int


def draw(nodes: Sequence[Node]) -> Graph:
    """Lay the nodes out. Edges to unknown keys are left out; a cycle is drawn as if its nodes waited for nothing."""
    by_key = {node.key: node for node in nodes}
    columns = _columns(by_key)
    places: dict[str, tuple[int, int]] = {}
    tallest = max((len(column) for column in columns), default=0)
    for number, column in enumerate(columns):
        offset = (tallest - len(column)) * (BOX_H + GAP_Y) // 2
        ordered = sorted(column, key=lambda key: (_mean_row(by_key[key], places), column.index(key)))
        for row, key in enumerate(ordered):
            places[key] = (MARGIN + number * (BOX_W + GAP_X), MARGIN + offset + row * (BOX_H + GAP_Y))
    edges = [
        Edge(_curve(places[parent], places[node.key]), by_key[parent].status == "completed")
        for node in nodes
        for parent in node.depends_on
        if parent in places
    ]
    return Graph(
        [Box(by_key[key], *place) for key, place in places.items()],
        edges,
        width=2 * MARGIN + len(columns) * (BOX_W + GAP_X) - (GAP_X if columns else 0),
        height=2 * MARGIN + tallest * (BOX_H + GAP_Y) - (GAP_Y if tallest else 0),
    )


def _columns(by_key: Mapping[str, Node]) -> list[list[str]]:
    """Return the keys by depth: a node's column is the one after its last dependency's."""
    parents = {key: [p for p in node.depends_on if p in by_key] for key, node in by_key.items()}
    try:
        order = list(TopologicalSorter(parents).static_order())
    except CycleError:
        order, parents = list(by_key), defaultdict(list)
    depth: dict[str, int] = {}
    for key in order:
        depth[key] = 1 + max((depth[parent] for parent in parents[key]), default=-1)
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key in by_key:
        columns[depth[key]].append(key)
    return columns


def _mean_row(node: Node, places: Mapping[str, tuple[int, int]]) -> float:
    """Return the mean height of what the node waits for, so that edges cross less."""
    rows = [places[parent][1] for parent in node.depends_on if parent in places]
    return sum(rows) / len(rows) if rows else 0


def _curve(parent: tuple[int, int], child: tuple[int, int]) -> str:
    x1, y1 = parent[0] + BOX_W, parent[1] + BOX_H // 2
    x2, y2 = child[0], child[1] + BOX_H // 2
    middle = (x2 - x1) // 2
    return f"M{x1} {y1}C{x1 + middle} {y1} {x2 - middle} {y2} {x2} {y2}"


def nodes_of(content: Sequence[Mapping[str, Any]], tasks: Mapping[str, Any]) -> list[Node]:
    """Return the nodes of a plan's content; `tasks` are its tasks by key, once there are any."""
    return [
        Node(
            key=str(data["key"]),
            title=str(data.get("title", data["key"])),
            role=str(data.get("role", "")),
            depends_on=tuple(str(key) for key in data.get("depends_on", ())),
            estimate_minutes=int(data.get("estimate_minutes") or 0),
            status=tasks[data["key"]].status if data["key"] in tasks else "",
            url=reverse("task", args=[tasks[data["key"]].pk]) if data["key"] in tasks else "",
        )
        for data in content
    ]
