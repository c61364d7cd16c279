"""Where the tasks of a plan are drawn: columns by depth, edges from left to right. Plain geometry, in pixels.

An edge over several columns gets a narrow lane of its own in each column between, so that it never runs behind a box
that it has nothing to do with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from django.urls import reverse

BOX_W, BOX_H = 188, 52
LANE_H = 6
GAP_X, GAP_Y = 44, 18
MARGIN = 2
TITLE_CHARS = 25


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
    is_waiting: bool = False
    """Whether it waits for a person's decision."""

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


@dataclass
class _Slot:
    """A place in a column: a node's box, or the lane of an edge that passes."""

    node: Node | None
    before: list["_Slot"] = field(default_factory=list)
    x: int = 0
    y: int = 0

    @property
    def height(self) -> int:
        return BOX_H if self.node else LANE_H

    @property
    def middle(self) -> int:
        return self.y + self.height // 2


def draw(nodes: Sequence[Node]) -> Graph:
    """Lay the nodes out. Edges to unknown keys are left out; in a cycle nothing waits for anything."""
    by_key = {node.key: node for node in nodes}
    parents = _parents(by_key)
    depth = _depths(parents)
    columns: list[list[_Slot]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    slots = {key: _Slot(node) for key, node in by_key.items()}
    for key, slot in slots.items():
        columns[depth[key]].append(slot)
    routes = [
        (by_key[parent], _route(slots[parent], slots[key], columns[depth[parent] + 1 : depth[key]]))
        for key, keys in parents.items()
        for parent in keys
    ]
    height = _place(columns)
    boxes = [Box(slot.node, slot.x, slot.y) for column in columns for slot in column if slot.node]
    edges = [Edge(_curve(route), node.status == "completed") for node, route in routes]
    width = 2 * MARGIN + len(columns) * (BOX_W + GAP_X) - (GAP_X if columns else 0)
    return Graph(boxes, edges, width=width, height=height)


def _parents(by_key: Mapping[str, Node]) -> dict[str, list[str]]:
    return {key: [p for p in node.depends_on if p in by_key] for key, node in by_key.items()}


def _depths(parents: dict[str, list[str]]) -> dict[str, int]:
    """Return each key's column: the one after its last dependency's. Empties `parents` if they go in circles."""
    try:
        order = list(TopologicalSorter(parents).static_order())
    except CycleError:
        order = list(parents)
        for keys in parents.values():
            keys.clear()
    depth: dict[str, int] = {}
    for key in order:
        depth[key] = 1 + max((depth[parent] for parent in parents[key]), default=-1)
    return depth


def _route(start: _Slot, end: _Slot, between: Sequence[list[_Slot]]) -> list[_Slot]:
    """Make the lanes of an edge and return all its slots in order."""
    route = [start]
    for column in between:
        lane = _Slot(None, before=[route[-1]])
        column.append(lane)
        route.append(lane)
    end.before.append(route[-1])
    return [*route, end]


def _place(columns: Sequence[list[_Slot]]) -> int:
    """Give every slot its place, each near what comes before it, and return the height of the whole."""
    heights = [sum(slot.height + GAP_Y for slot in column) - GAP_Y for column in columns]
    tallest = max(heights, default=0)
    for number, column in enumerate(columns):
        column.sort(key=_wanted_y)
        y = MARGIN + (tallest - heights[number]) // 2
        for slot in column:
            slot.x, slot.y = MARGIN + number * (BOX_W + GAP_X), y
            y += slot.height + GAP_Y
    return tallest + 2 * MARGIN


def _wanted_y(slot: _Slot) -> float:
    return sum(other.middle for other in slot.before) / len(slot.before) if slot.before else 0


def _curve(route: Sequence[_Slot]) -> str:
    """Return the path through the slots: across each gap in a curve, along each lane straight."""
    path = f"M{route[0].x + BOX_W} {route[0].middle}"
    for left, right in pairwise(route):
        x1, x2 = left.x + BOX_W, right.x
        bend = (x2 - x1) // 2
        path += f"C{x1 + bend} {left.middle} {x2 - bend} {right.middle} {x2} {right.middle}"
        if right.node is None:
            path += f"H{right.x + BOX_W}"
    return path


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
