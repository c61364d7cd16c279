"""Orders to misbehave, so that what supervises the model can be tested.

An order stands in the brief, the task's title or description, or a feedback text:

    [[rehearsal: <fault> <option>=<value> ...]]

Faults of the wire, per request:
    429       rate_limit_error with `retry-after`
    529       overloaded_error
    500       api_error
    cut       the stream ends in the middle, without its last events
    slow      a pause of `delay` seconds (default 0.2) before every event
    stall     the stream opens and then nothing comes, for `delay` seconds (default 600)
    garbage   an answer that is no event stream; with `mode=input`, a tool call whose input is no JSON

Faults of conduct, of the script itself:
    loop      never stops calling tools
    hostile   first tries to read the environment, /etc, other processes, other directories and the network
    broken    (developer, tester) hands in a change whose tests fail, and says that they pass
    conflict  (developer) also changes the first line of README.md, so that parallel tasks collide
    ask       asks the mentor before it starts
    block     reports the task as blocked          fail    reports it as failed
    silent    ends its turn without an ending verb
    listen    works on until a message from others comes, and says in the end what it was told
    divide    (orchestrator) adds a task for the role of `mode` below its own, after it asked for too many at once

Options:
    times=N     wire: the first N requests of the run; conduct: the first N attempts. The default is 1 for 429, 529,
                500, cut, garbage, broken, conflict, block, fail, silent and divide, unlimited for slow, stall, loop,
                hostile, ask and listen
    for=S       wire: instead of `times`, for S seconds from the run's first request
    after=N     wire: only after N requests of the run went well
    role=R kind=K task=KEY     only for runs of this role, kind of task, task
    delay=S mode=M             see above

An unknown fault or option makes the order void. Counters live in memory, by run id; the runs seen last are kept.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from .context import Context

WIRE_FAULTS = frozenset({"429", "529", "500", "cut", "slow", "stall", "garbage"})
CONDUCT_FAULTS = frozenset(
    {"loop", "hostile", "broken", "conflict", "ask", "block", "fail", "silent", "listen", "divide"}
)
_UNLIMITED = frozenset({"slow", "stall", "loop", "hostile", "ask", "listen"})
_ORDER = re.compile(r"\[\[\s*rehearsal:\s*(\w+)((?:\s+\w+=[\w.-]+)*)\s*\]\]", re.IGNORECASE)
_NUMBERS = frozenset({"times", "for", "after", "delay"})
_WORDS = frozenset({"role", "kind", "task", "mode"})
_KEPT_RUNS = 2000


@dataclass(frozen=True)
class Order:
    """One order, already known to concern the run it was read for."""

    fault: str
    times: float
    for_s: float | None = None
    after: float = 0
    delay_s: float | None = None
    mode: str = ""


@dataclass
class _Seen:
    first_at: float
    requests: int = 0
    used: dict[Order, int] = field(default_factory=dict)


class Memory:
    """How often each run has asked, and how often each order was carried out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: OrderedDict[str, _Seen] = OrderedDict()

    def next_fault(self, context: Context) -> tuple[Order, int] | None:
        """The order for this request and the seconds until it ends (at least 1), counting the request."""
        now = self._clock()
        seen = self._runs.setdefault(context.run, _Seen(now))
        self._runs.move_to_end(context.run)
        while len(self._runs) > _KEPT_RUNS:
            self._runs.popitem(last=False)
        seen.requests += 1
        for order in orders(context):
            if order.fault in WIRE_FAULTS and seen.requests > order.after and _is_due(order, seen, now):
                seen.used[order] = seen.used.get(order, 0) + 1
                left = order.for_s - (now - seen.first_at) if order.for_s is not None else 1
                return order, max(1, int(left + 0.999))
        return None


def _is_due(order: Order, seen: _Seen, now: float) -> bool:
    if order.for_s is not None:
        return now - seen.first_at < order.for_s
    return seen.used.get(order, 0) < order.times


def orders(context: Context) -> list[Order]:
    """The orders that concern this run, in the order of the texts."""
    texts = [context.brief, context.title, context.description, *context.feedback]
    found = [_parse(match, context) for text in texts for match in _ORDER.finditer(text)]
    return list(dict.fromkeys(order for order in found if order is not None))


def conduct(context: Context) -> set[str]:
    """The faults of conduct that concern this attempt."""
    return {
        order.fault for order in orders(context) if order.fault in CONDUCT_FAULTS and context.attempt <= order.times
    }


def _parse(match: re.Match[str], context: Context) -> Order | None:
    fault = match[1].lower()
    options = dict(part.split("=", 1) for part in match[2].split())
    if fault not in WIRE_FAULTS | CONDUCT_FAULTS or not options.keys() <= _NUMBERS | _WORDS:
        return None
    concerned = {"role": context.role, "kind": context.kind, "task": context.key}
    if any(options[name] != actual for name, actual in concerned.items() if name in options):
        return None
    try:
        numbers = {name: float(options[name]) for name in _NUMBERS & options.keys()}
    except ValueError:
        return None
    return Order(
        fault=fault,
        times=numbers.get("times", float("inf") if fault in _UNLIMITED else 1),
        for_s=numbers.get("for"),
        after=numbers.get("after", 0),
        delay_s=numbers.get("delay"),
        mode=options.get("mode", ""),
    )
