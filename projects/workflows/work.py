"""One node's work: its function called, and what that led to, decided before anything is written."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from projects.jsontext import MAX_DEPTH, storable_json, storable_text
from projects.workflows import functions
from projects.workflows.conditions import UndecidedCondition
from projects.workflows.functions import Call, Permanent
from projects.workflows.plan import Plan, Way

logger = logging.getLogger(__name__)

MAX_RESULT_CHARS = 256 * 1024
MAX_ERROR_CHARS = 2_000
# A node that was claimed so often more than its retries explain ends the workers that run it.
MAX_LOSSES = 3
LONGEST_DELAY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A node that a runner holds. `attempts` tells this claim from all before it; `tries` is how many there were
    since the node was last done anew."""

    execution_id: UUID
    position: int
    attempts: int
    workflow_id: UUID
    plan: Plan
    tries: int


@dataclass(slots=True)
class Outcome:
    """What a claimed node led to. `met` are its edges, in order; none when it is tried again, or nobody handles it."""

    node: Claimed
    status: str
    result: str | None = None
    error: str = ""
    delay_s: float = 0.0
    met: list[bool] = field(default_factory=list)
    is_fatal: bool = False
    back: Way | None = None
    """The edge by which it leads back, where one does: then it counts as not done, and nothing follows it."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing can be skipped by it, and nothing ended before its time: one statement does it all."""
        return not self.is_fatal and self.back is None and all(self.met)


Reading = Callable[[Claimed], Any]


def work(node: Claimed, *, read_input: Reading, read_results: Reading) -> Outcome:
    """Call the function of a node, which this process knows. Never raises: a failure is an outcome."""
    step = node.plan.nodes[node.position]
    if node.tries > step.retries + 1 + MAX_LOSSES:
        return failed(node, f"It was begun {node.tries - 1} times, and whoever ran it was lost each time.")
    function = functions.find(step.function)
    if function is None:
        return failed(node, f"No function “{step.function}” is registered on the worker that took it.")
    call = Call(node.execution_id, step.key, step.params, lambda: read_input(node), lambda: read_results(node))
    try:
        value = function(call)
        return succeeded(node, value)
    except Permanent as error:
        return failed(node, str(error) or "Its function gave up.")
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}"
        if node.tries <= step.retries:
            delay = min(step.retry_after_s * 2 ** (node.tries - 1), LONGEST_DELAY_S)
            return Outcome(node, "ready", error=_text(said), delay_s=delay)
        return failed(node, said)


def succeeded(node: Claimed, value: Any) -> Outcome:
    """Return the outcome of a node that returned `value`. Raises Permanent when it cannot be stored."""
    text = as_json(value)
    if node.plan.is_plain(node.position):
        return Outcome(node, "completed", text, met=[True] * len(node.plan.ways[node.position]))
    value = json.loads(text)
    try:
        met = node.plan.met(node.position, status="completed", result=value)
        back = node.plan.back(node.position, status="completed", result=value)
        return Outcome(node, "completed", text, met=met, back=back)
    except UndecidedCondition as error:
        return failed(node, str(error), result=text)


def as_json(value: Any) -> str:
    """Return a result as text that PostgreSQL stores. Raises Permanent for what is no JSON, or too large."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Permanent(f"It returned what is no JSON: {error}") from error
    if len(text) > MAX_RESULT_CHARS:
        raise Permanent(
            f"It returned {len(text):,} characters of JSON; at most {MAX_RESULT_CHARS:,} are kept. "
            "Store what is larger as a file, and return where."
        )
    # What PostgreSQL does not store, and what nests too deep, is rare; whoever comes near it pays for a closer look.
    is_odd = "\\u0000" in text or "\\ud" in text or text.count("[") + text.count("{") > MAX_DEPTH
    return json.dumps(storable_json(value)) if is_odd else text


def failed(node: Claimed, said: str, *, result: str | None = None, may_lead_back: bool = True) -> Outcome:
    """Return the outcome of a node whose attempts are over. It ends the execution unless an edge goes on from it."""
    outcome = Outcome(node, "failed", result, error=_text(said))
    value = json.loads(result) if result else None
    try:
        met = node.plan.met(node.position, status="failed", result=value)
        outcome.back = node.plan.back(node.position, status="failed", result=value) if may_lead_back else None
    except UndecidedCondition as error:
        outcome.error, met = _text(f"{said} {error}"), []
    outcome.is_fatal = not any(met) and outcome.back is None
    outcome.met = [] if outcome.is_fatal else met
    return outcome


def _text(said: str) -> str:
    return storable_text(said, max_chars=MAX_ERROR_CHARS)
