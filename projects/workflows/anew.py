"""Writing that nodes of an execution are done anew: for a person who asks for it, and for an edge that leads back."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from projects.states import NodeStatus
from projects.workflows import statements
from projects.workflows.plan import Plan
from projects.workflows.rewinding import Place, Stand

Execute = Callable[[str, dict[str, Any]], list[Any]]


def stands_of(execute: Execute, execution_id: UUID) -> dict[int, Stand]:
    """Return where each node stands. The caller holds the execution."""
    rows = execute(statements.STANDS, {"execution": execution_id})
    # As text: the connections of runners and of Django read JSON differently.
    return {position: Stand(status, json.loads(text) if text is not None else None) for position, status, text in rows}


def do_anew(
    execute: Execute,
    execution_id: UUID,
    plan: Plan,
    found: Mapping[int, Place],
    start: int,
    *,
    is_paused: bool,
    detail: str,
    is_fresh: bool = False,
) -> None:
    """Put nodes where `rewinding.places` found that they belong, under the execution's lock.

    `is_fresh`: edges that lead back from them are counted from here, as when a person asks.
    """
    order = sorted(found)
    keys = [plan.nodes[position].key for position in order]
    execute(
        statements.REWIND,
        {
            "execution": execution_id,
            "positions": order,
            "from_position": start,
            "detail": detail,
            "is_fresh": is_fresh,
        },
    )
    place(execute, execution_id, found, is_paused=is_paused)
    execute(statements.REOPEN, {"execution": execution_id, "keys": keys})


def place(execute: Execute, execution_id: UUID, found: Mapping[int, Place], *, is_paused: bool) -> None:
    """Write the status and the counters of nodes that have not begun."""
    order = sorted(found)
    execute(
        statements.PLACE,
        {
            "execution": execution_id,
            "positions": order,
            "statuses": [_held(found[position].status, is_paused) for position in order],
            "unmet": [found[position].unmet for position in order],
            "undecided": [found[position].undecided for position in order],
        },
    )


def _held(status: NodeStatus, is_paused: bool) -> str:
    return NodeStatus.HELD.value if is_paused and status == NodeStatus.READY else status.value
