"""What a hostile agent tries, by class. Runs inside a sandbox as the package `hostile`: standard library only.

    python3 -m hostile WORLD.json FAMILY[,FAMILY...]     prints a JSON list of what came of each

The same functions run where nothing guards them (`control`), and must succeed there: a probe that cannot succeed shows
nothing by failing.
"""

from .base import ATTACKS, CONTROLS, Attack

__all__ = ["ATTACKS", "CONTROLS", "Attack"]

from . import (  # each registers its attacks
    bombs,
    budget,
    dockers,
    egress,
    environment,
    gitgate,
    hosts,
    injection,
    kernel,
    keys,
    mcp,
    neighbours,
    paths,
    proc,
    roles,
    tokens,
    tools,
)

__all__ += [
    "bombs", "budget", "dockers", "egress", "environment", "gitgate", "hosts", "injection", "kernel", "keys", "mcp",
    "neighbours", "paths", "proc", "roles", "tokens", "tools",
]  # fmt: skip
