"""Where the nodes of an execution stand when some of them are done anew. Pure functions, no database."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from projects.states import OPEN_NODE, NodeStatus
from projects.workflows.conditions import UndecidedCondition
from projects.workflows.plan import Plan


@dataclass(frozen=True)
class Stand:
    """Where a node stands now."""

    status: str
    result: Any = None


@dataclass(frozen=True)
class Place:
    """Where a node is put: its status and its two counters."""

    status: NodeStatus
    unmet: int = 0
    undecided: int = 0


def behind(plan: Plan, starts: Iterable[int]) -> set[int]:
    """Return these positions and all that follow them."""
    found = set(starts)
    left = list(found)
    while left:
        for way in plan.ways[left.pop()]:
            if way.target not in found:
                found.add(way.target)
                left.append(way.target)
    return found


def places(plan: Plan, stands: Mapping[int, Stand], anew: set[int], start: int) -> dict[int, Place]:
    """Return where each node that is done anew is put: `start` is ready, whatever led to it; the others as the nodes
    that stay, and those before them, decide."""
    found = {start: Place(NodeStatus.READY)}
    for position in _in_order(plan, anew):
        if position not in found:
            found[position] = _place(plan, position, stands, anew, found)
    return found


def _place(plan: Plan, position: int, stands: Mapping[int, Stand], anew: set[int], found: dict[int, Place]) -> Place:
    met = undecided = 0
    for parent in plan.parents[position]:
        if parent in anew:
            undecided += found[parent].status != NodeStatus.SKIPPED
        elif stands[parent].status in OPEN_NODE:
            undecided += 1
        else:
            met += _leads_to(plan, parent, position, stands[parent])
    unmet = max(plan.unmet[position] - met, 0)
    if unmet > undecided:
        return Place(NodeStatus.SKIPPED, unmet, undecided)
    return Place(NodeStatus.PENDING if unmet else NodeStatus.READY, unmet, undecided)


def _leads_to(plan: Plan, parent: int, position: int, stand: Stand) -> bool:
    """Whether an ended node's edge to another is met. One that was left out by a person has a result."""
    is_left_out = stand.status == NodeStatus.SKIPPED and stand.result is not None
    if stand.status not in {NodeStatus.COMPLETED, NodeStatus.FAILED} and not is_left_out:
        return False
    status = "completed" if is_left_out else stand.status
    try:
        met = plan.met(parent, status=status, result=stand.result)
    except UndecidedCondition:
        return False
    return any(is_met and way.target == position for way, is_met in zip(plan.ways[parent], met, strict=True))


def _in_order(plan: Plan, anew: set[int]) -> list[int]:
    """Return the positions so that each comes after those that lead to it."""
    waits = {position: sum(parent in anew for parent in plan.parents[position]) for position in anew}
    free = [position for position, count in waits.items() if count == 0]
    order = []
    while free:
        order.append(position := free.pop())
        for way in plan.ways[position]:
            waits[way.target] -= 1
            if waits[way.target] == 0:
                free.append(way.target)
    return order
