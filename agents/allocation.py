"""Which worker gets a run: seed 003's score of tools, resources and privacy. Nothing is asked or written here.

score = 0.5 × tools + 0.3 × resources + 0.2 × privacy        each from 0 to 10
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from agents.models import Worker
from agents.roles import ROLES, Terminal
from agents.roles.policy import RoleLimits
from agents.runtimes.contract import Limits
from agents.runtimes.volumes import RESERVE_MB
from agents.states import Trust
from projects.models import Project
from projects.queries import Candidate
from projects.roles import Role

WEIGHTS = {"tools": Decimal("0.5"), "resources": Decimal("0.3"), "privacy": Decimal("0.2")}
FULL = Decimal(10)
_CENTS = Decimal("0.01")
RUN_DISK_MB, CHECK_DISK_MB = RoleLimits.disk_mb, Limits.disk_mb
# Of the workers that were not chosen, so many are named in the decision.
_NAMED = 8


@dataclass(frozen=True)
class Wanted:
    """What a run asks of its machine."""

    tools: frozenset[str]
    is_sensitive: bool


@dataclass(frozen=True)
class Score:
    """How well a worker suits."""

    tools: Decimal
    resources: Decimal
    privacy: Decimal

    @property
    def total(self) -> Decimal:
        """The weighted sum."""
        return sum((weight * getattr(self, name) for name, weight in WEIGHTS.items()), Decimal(0))


@dataclass(frozen=True)
class Decision:
    """The worker that was chosen, and why, as it is stored with the run and in the audit log."""

    worker: Worker
    reasons: dict[str, Any]


def tools_of(role: str) -> frozenset[str]:
    """Return which tools a role's runs use."""
    policy = ROLES[Role(role)]
    tools = {"claude_code"}
    if policy.browser:
        tools.add("browser")
    if policy.terminal is not Terminal.NO:
        tools.add("isolation")  # what runs commands is better off in a container
    return frozenset(tools)


def wanted_by(candidate: Candidate) -> Wanted:
    """Return what a task's runs ask."""
    return Wanted(tools_of(candidate.role), candidate.is_sensitive)


def is_sensitive(project: Project) -> bool:
    """Return whether a project goes to trusted workers only."""
    return bool(project.config.get("privacy") == Trust.SENSITIVE)


def counted_as(role: str) -> frozenset[str]:
    """Return the limits of the house that a run of the role counts against: its role's, and those of its tools.

    No tool has the name of a role.
    """
    return tools_of(role) | {Role(role).value}


def free_of_limits(limits: Mapping[str, int], active: Mapping[str, int]) -> dict[str, int]:
    """Return how many more runs of each limited role, or with each limited tool, may be at work at once.

    `active` are the roles of those at work. It is less than nothing where a limit became lower meanwhile.
    """
    used = Counter(dict.fromkeys(limits, 0))
    for role, count in active.items():
        used.update(dict.fromkeys(counted_as(role) & limits.keys(), count))
    return {name: most - used[name] for name, most in limits.items()}


def used_up(role: str, free: Mapping[str, int]) -> list[str]:
    """Return which limits keep the role from more runs, by name. `free` is as `free_of_limits` returns it."""
    return sorted(name for name in counted_as(role) if free.get(name, 1) <= 0)


def fits_on_disk(load: Mapping[str, Any], *, busy: int, unmade: int) -> int | None:
    """Return how many more runs a worker's disk holds by its last reading; None where it promises none to anybody.

    Each run needs room for itself and, at its end, for the check of its commit. Of the `busy` runs it has, `unmade`
    have taken theirs since the reading, if at all.
    """
    promised = load.get("disk_promised_mb")
    if promised is None:
        return None
    free = load["disk_free_mb"] - promised - RESERVE_MB - busy * CHECK_DISK_MB - unmade * RUN_DISK_MB
    return max(0, int(free // (RUN_DISK_MB + CHECK_DISK_MB)))


def choose(workers: Sequence[Worker], free: dict[UUID, int], wanted: Wanted) -> Decision | None:
    """Return the worker with the highest score among those with room; None when none may take it.

    Of equals the one with the most room. A sensitive project goes to trusted workers only.
    """
    open_to = [worker for worker in workers if free[worker.pk] > 0]
    scores = {w.pk: score(w, wanted, free=free[w.pk]) for w in open_to if not wanted.is_sensitive or _is_trusted(w)}
    trusted = [worker for worker in open_to if worker.pk in scores]
    best = max(trusted, key=lambda worker: (scores[worker.pk].total, free[worker.pk]), default=None)
    if best is None:
        return None
    others = [worker for worker in open_to if worker is not best][:_NAMED]
    return Decision(best, _reasons(scores[best.pk], wanted) | {"others": {w.name: _said(w, scores) for w in others}})


def score(worker: Worker, wanted: Wanted, *, free: int) -> Score:
    """Return how well a worker suits. Readings that are missing count as an idle machine."""
    load = worker.load
    idle = Decimal(1) - min(Decimal(str(load.get("cpu_percent", 0))), Decimal(100)) / 100
    memory = Decimal(load.get("memory_free_mb", 1)) / max(Decimal(load.get("memory_mb", 1)), Decimal(1))
    places = Decimal(free) / worker.capacity
    return Score(
        tools=FULL if wanted.tools <= set(worker.tools) else Decimal(0),
        # What was handed out a moment ago shows in no reading yet, but in the places.
        resources=FULL * places * (idle + min(memory, Decimal(1))) / 2,
        privacy=FULL if _is_trusted(worker) or not wanted.is_sensitive else Decimal(0),
    )


def _is_trusted(worker: Worker) -> bool:
    return worker.trust == Trust.SENSITIVE


def _reasons(found: Score, wanted: Wanted) -> dict[str, Any]:
    parts = {name: str(getattr(found, name).quantize(_CENTS)) for name in WEIGHTS}
    asked = {"wanted": sorted(wanted.tools), "sensitive": wanted.is_sensitive}
    return {"score": str(found.total.quantize(_CENTS)), **parts, **asked}


def _said(worker: Worker, scores: dict[UUID, Score]) -> str:
    found = scores.get(worker.pk)
    return str(found.total.quantize(_CENTS)) if found else "not trusted with sensitive projects"
