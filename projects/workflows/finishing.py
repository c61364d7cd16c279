"""Writing what claimed nodes led to, and what follows from it: by a runner, or by whoever ends a node's task."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from projects.jsontext import storable_text
from projects.workflows import statements
from projects.workflows.anew import Execute, do_anew, stands_of
from projects.workflows.rewinding import behind, places
from projects.workflows.work import MAX_ERROR_CHARS, Claimed, Outcome, failed

# Of what a person decides, as often as the column counts.
_MOST = 2**31 - 1


@dataclass
class Written:
    """What a batch led to: nodes that its writer goes on with, executions whose tasks are to be begun, and those that
    ended."""

    following: list[Claimed] = field(default_factory=list)
    to_begin: set[UUID] = field(default_factory=set)
    ended: set[UUID] = field(default_factory=set)


def write(
    execute: Execute,
    outcomes: Sequence[Outcome],
    *,
    keep: int,
    transaction: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Written:
    """Write outcomes, skip what can no longer be reached, end what is over. `keep` is how many of the function nodes
    that became ready the writer claims in the same statement.

    More than one statement unless all outcomes are plain: then the caller holds a transaction. Who does not gives
    `transaction`, in which is written what a first statement could not.
    """
    written = Written()
    if any(outcome.back for outcome in outcomes):
        with transaction():
            outcomes = [one for outcome in outcomes if (one := _lead_back(execute, outcome, written))]
        if not outcomes:
            return written
    fatal = next((outcome for outcome in outcomes if outcome.is_fatal), None)
    left = _finish(execute, outcomes, written, keep=keep)
    if left:
        # People may have had nodes done anew while that statement waited. Held first, nothing can change under the
        # second one: what comes to nothing once more is late.
        with transaction():
            execute(statements.HOLD, {"executions": held_executions([outcome.node for outcome in left])})
            late = _finish(execute, left, written, keep=keep)
            if late:
                execute(statements.LATE, _places_of([outcome.node for outcome in late]))
        left = late
    if fatal is not None and fatal not in left:
        execution = fatal.node.execution_id
        execute(statements.STOP, {"execution": execution, "status": "failed", "detail": _detail(fatal)})
        written.ended.add(execution)
    return written


def _lead_back(execute: Execute, outcome: Outcome, written: Written) -> Outcome | None:
    """Have what lies behind an outcome's back edge done anew, and return none; what cannot go back is returned, as it
    is written instead."""
    node, back = outcome.node, outcome.back
    if back is None:
        return outcome
    execute(statements.HOLD, {"executions": [node.execution_id]})
    claim = _places_of([node]) | {"attempts": [node.attempts]}
    most = _MOST if node.plan.nodes[node.position].stage else back.repeat
    claimed = execute(statements.LEAD_BACK, claim | {"most": most})
    if not claimed:  # late, or it went back too often: the one changes nothing, the other is a failure
        said = f"It has led back {back.repeat} times, and would once more."
        return failed(node, said, result=outcome.result, may_lead_back=False)
    ((repeats, is_paused),) = claimed
    found = places(node.plan, stands_of(execute, node.execution_id), behind(node.plan, [back.target]), back.target)
    counted = f"{repeats} of {most} times" if most != _MOST else f"for the {repeats}. time"
    detail = f"“{node.plan.nodes[node.position].key}” leads back here, {counted}."
    if outcome.error:
        detail = storable_text(f"{detail} {outcome.error}", max_chars=MAX_ERROR_CHARS)
    do_anew(execute, node.execution_id, node.plan, found, back.target, is_paused=is_paused, detail=detail)
    if node.plan.nodes[back.target].kind != "function":
        written.to_begin.add(node.execution_id)
    return None


def _finish(execute: Execute, outcomes: Sequence[Outcome], written: Written, *, keep: int) -> list[Outcome]:
    """Write outcomes by one statement, with what follows, and return those that came to nothing."""
    fatal = next((outcome for outcome in outcomes if outcome.is_fatal), None)
    nodes = {outcome.node.execution_id: outcome.node for outcome in outcomes}
    given = columns_of(outcomes) | {"keep": keep, "fatal": fatal is not None, "detail": _detail(fatal)}
    rows = execute(statements.FINISH, given)
    in_time = {(row[1], row[2]) for row in rows if row[0] == "ended"}
    resolve(execute, rows, nodes, written, keep=keep)
    return [outcome for outcome in outcomes if (outcome.node.execution_id, outcome.node.position) not in in_time]


def resolve(execute: Execute, rows: Sequence[Any], nodes: dict[UUID, Claimed], written: Written, *, keep: int) -> None:
    """Take in the rows of FINISH or SKIP, and have skipped what those skip in turn."""
    while True:
        written.following += [
            Claimed(row[1], row[2], row[3], nodes[row[1]].workflow_id, nodes[row[1]].plan, row[4])
            for row in rows
            if row[0] == "running"
        ]
        written.to_begin |= {row[1] for row in rows if row[0] == "begin"}
        written.ended |= {row[1] for row in rows if row[0] == "done"}
        skipped = [(row[1], row[2]) for row in rows if row[0] == "skipped"]
        if not skipped:
            return
        rows = execute(statements.SKIP, _skip_columns(skipped, nodes, keep=keep))


def _detail(fatal: Outcome | None) -> str:
    if fatal is None:
        return ""
    said = f"Node “{fatal.node.plan.nodes[fatal.node.position].key}” failed: {fatal.error}"
    return storable_text(said, max_chars=MAX_ERROR_CHARS)


def _places_of(nodes: Sequence[Claimed]) -> dict[str, Any]:
    return {"node_executions": [n.execution_id for n in nodes], "positions": [n.position for n in nodes]}


def _skip_columns(skipped: list[tuple[UUID, int]], nodes: dict[UUID, Claimed], *, keep: int) -> dict[str, Any]:
    """Return SKIP's parameters: no edge from a skipped node is met."""
    met = [[False] * len(nodes[execution].plan.ways[position]) for execution, position in skipped]
    return skip_columns([(nodes[execution], position) for execution, position in skipped], met, keep=keep)


def skip_columns(skipped: Sequence[tuple[Claimed, int]], met: Sequence[list[bool]], *, keep: int) -> dict[str, Any]:
    """Return SKIP's parameters for nodes that ended without a result; `met` says of each which edges are met."""
    ways = [
        (node.execution_id, place, way.target, is_met)
        for place, ((node, position), decided) in enumerate(zip(skipped, met, strict=True), 1)
        for way, is_met in zip(node.plan.ways[position], decided, strict=True)
    ]
    return {
        "executions": sorted({node.execution_id for node, _ in skipped}),
        "node_executions": [node.execution_id for node, _ in skipped],
        "positions": [position for _, position in skipped],
        "edge_executions": [way[0] for way in ways],
        "sources": [way[1] for way in ways],
        "targets": [way[2] for way in ways],
        "met": [way[3] for way in ways],
        "keep": keep,
        "fatal": False,
        "detail": "",
    }


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
