"""What a role may do, as values of a lattice: of any two policies there is one that allows what both allow.

A specialisation is such a meeting of a base role and of what somebody wants of it, so nothing that is asked for can
widen a role: what the base does not allow is not in the meeting.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import Flag

from agents.egress import EgressClass
from agents.workspace.paths import PathPolicy

__all__ = [
    "EVERYTHING",
    "Git",
    "RoleLimits",
    "RolePolicy",
    "Terminal",
    "check_root",
    "covers",
    "meet_roots",
    "narrower_egress",
]

EVERYTHING = ""
"""The root that covers every path of the checkout."""

_ROOT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?")


class Git(Flag):
    """What of `.git` an agent gets: without READ it is hidden, without WRITE it cannot commit."""

    NO = 0
    READ = 1
    WRITE = 2
    FULL = READ | WRITE


class Terminal(Flag):
    """Which commands the CLI runs for an agent. What a command starts in turn is held by the sandbox alone."""

    NO = 0
    TEST = 1
    DIAGNOSTIC = 2
    OTHER = 4
    FULL = TEST | DIAGNOSTIC | OTHER


@dataclass(frozen=True, kw_only=True)
class RoleLimits:
    """The most that one run may use. `minutes`, `turns` and `cost` are what a squad is made with; its row may say
    otherwise for a role, and never more than a specialisation allows."""

    memory_mb: int = 2048
    cpus: float = 1.0
    pids: int = 512
    disk_mb: int = 2048
    """Checkout, home and all that is written there."""
    tmp_mb: int = 512
    minutes: int = 30
    turns: int = 60
    cost: Decimal = Decimal(5)

    def meet(self, other: "RoleLimits") -> "RoleLimits":
        """Return the lower of each."""
        lower = {item.name: min(getattr(self, item.name), getattr(other, item.name)) for item in fields(self)}
        return RoleLimits(**lower)

    def is_within(self, other: "RoleLimits") -> bool:
        """Whether none is higher than the other's."""
        return self.meet(other) == self


@dataclass(frozen=True, kw_only=True)
class RolePolicy:
    """What the kernel and the wire allow a role.

    `writable` are the roots below which files may be changed: "docs/" is a directory, "README.md" a file, EVERYTHING
    the whole checkout. `verbs` are those of the MCP server.
    """

    writable: frozenset[str] = frozenset()
    git: Git = Git.READ
    terminal: Terminal = Terminal.NO
    browser: bool = False
    spawn: bool = False
    egress: EgressClass = EgressClass.INTERNAL
    limits: RoleLimits = RoleLimits()
    verbs: frozenset[str] = frozenset()

    @property
    def merged(self) -> tuple[str, ...]:
        """The globs of files whose change is merged."""
        return tuple(sorted(_glob(root) for root in self.writable))

    @property
    def path_policy(self) -> PathPolicy:
        """The same, in the workspace's terms."""
        return PathPolicy(self.merged)

    def meet(self, other: "RolePolicy") -> "RolePolicy":
        """Return the policy that allows what both allow."""
        return RolePolicy(
            writable=meet_roots(self.writable, other.writable),
            git=self.git & other.git,
            terminal=self.terminal & other.terminal,
            browser=self.browser and other.browser,
            spawn=self.spawn and other.spawn,
            egress=narrower_egress(self.egress, other.egress),
            limits=self.limits.meet(other.limits),
            verbs=self.verbs & other.verbs,
        )

    def is_within(self, other: "RolePolicy") -> bool:
        """Whether it allows nothing that the other does not."""
        return self.meet(other) == self


def _glob(root: str) -> str:
    return f"{root}**" if root == EVERYTHING or root.endswith("/") else root


def covers(root: str, path: str) -> bool:
    """Whether a root covers another root or a path."""
    return root in (EVERYTHING, path) or (root.endswith("/") and path.startswith(root))


def meet_roots(one: Iterable[str], other: Iterable[str]) -> frozenset[str]:
    """Return the roots that cover what both cover, each once: none of them covers another."""
    one, other = frozenset(one), frozenset(other)
    found = {root for root in one if any(covers(wider, root) for wider in other)}
    found |= {root for root in other if any(covers(wider, root) for wider in one)}
    return frozenset(root for root in found if not any(covers(wider, root) for wider in found - {root}))


def check_root(root: str) -> None:
    """Raise ValueError unless it names a directory (with a slash at the end) or a file of a checkout."""
    if root != EVERYTHING and not _ROOT.fullmatch(root):
        raise ValueError(f"{root!r} names no place of a checkout: write docs/ for a directory, README.md for a file")


def narrower_egress(one: EgressClass, other: EgressClass) -> EgressClass:
    """Return the class that lets through no more than either.

    What a class reaches is the operator's to say, so none but INTERNAL, which reaches nothing, is known to be within
    another one: not even within FULL, which may be narrowed.
    """
    return one if one == other else EgressClass.INTERNAL
