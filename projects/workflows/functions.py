"""Functions that nodes can name. A program registers its own; nothing else can be called.

    @register("reports.sum")
    def sum_up(call: Call) -> object:
        return {"total": sum(call.read_results().values())}

A function returns JSON. What it raises is a failure of the node, and is tried again as the node says; Permanent is not.
It may be called twice when its worker died in between, so it should be harmless when repeated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


class Permanent(Exception):
    """Raised by a function whose failure no repetition would mend."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a function is called with."""

    execution_id: UUID
    key: str
    """Of the node."""
    params: Mapping[str, Any]
    """The node's own, from the workflow."""
    read_input: Callable[[], Any]
    """Reads what the execution was started with."""
    read_results: Callable[[], dict[str, Any]]
    """Reads what the nodes before this one returned, by their keys."""


Function = Callable[[Call], Any]
_registered: dict[str, Function] = {}


def register(name: str) -> Callable[[Function], Function]:
    """Make a function known by a name. A name is given once: another function of the same name raises ValueError."""

    def keep(function: Function) -> Function:
        known = _registered.setdefault(name, function)
        if known is not function and known.__qualname__ != function.__qualname__:
            raise ValueError(f"The name {name} belongs to {known.__module__}.{known.__qualname__} already.")
        _registered[name] = function
        return function

    return keep


UNKNOWN = "No worker that looked so far knows the function"
"""How the error of a node begins that waits for a worker which does."""


def find(name: str) -> Function | None:
    """Return the function of this name, if any is registered in this process."""
    return _registered.get(name)


@register("noop")
def noop(call: Call) -> Any:
    """Do nothing, and return the node's params: for joints in a graph, and for trials."""
    return dict(call.params)
