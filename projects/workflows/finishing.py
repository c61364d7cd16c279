"""Outcomes as columns: what `statements.FINISH` takes."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from projects.workflows.work import Claimed, Outcome


def held_executions(nodes: Sequence[Claimed]) -> list[UUID]:
    """Return the executions of nodes in the order in which their rows are locked."""
    return sorted({node.execution_id for node in nodes})


def columns_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the nodes and their edges, column by column."""
    nodes = [outcome.node for outcome in outcomes]
    # An edge names its source by the place in this batch, from 1 as PostgreSQL counts.
    ways = [
        (node.execution_id, place, way.target, is_met)
        for place, (node, outcome) in enumerate(zip(nodes, outcomes, strict=True), 1)
        if outcome.met
        for way, is_met in zip(node.plan.ways[node.position], outcome.met, strict=True)
    ]
    return {
        "executions": held_executions(nodes),
        "node_executions": [node.execution_id for node in nodes],
        "positions": [node.position for node in nodes],
        "attempts": [node.attempts for node in nodes],
        "statuses": [outcome.status for outcome in outcomes],
        "results": [outcome.result for outcome in outcomes],
        "errors": [outcome.error for outcome in outcomes],
        "delays": [outcome.delay_s for outcome in outcomes],
        "sinks": [node.position in node.plan.sinks for node in nodes],
        "edge_executions": [way[0] for way in ways],
        "sources": [way[1] for way in ways],
        "targets": [way[2] for way in ways],
        "met": [way[3] for way in ways],
    }
