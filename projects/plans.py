"""What makes a plan usable: shape, roles, keys, and a graph without cycles. Pure functions, no database."""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from projects.errors import InvalidPlan
from projects.roles import Role

MAX_TASKS = 1_000
MAX_MINUTES = 10_000
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_SPECIALISATION = re.compile(r"[a-z0-9_-]{0,40}")
# The platform's own steps; a plan only has work on the product in it.
PLANNABLE_ROLES = frozenset(Role) - {Role.ORCHESTRATOR, Role.MENTOR}


@dataclass(frozen=True)
class PlannedTask:
    """One node of a plan, as the architect submits it."""

    key: str
    title: str
    role: str
    description: str = ""
    depends_on: tuple[str, ...] = ()
    estimate_minutes: int = 0
    acceptance_criteria: tuple[str, ...] = field(default_factory=tuple)
    specialisation: str = ""
    """The key of one of its role, or none. Which there are, a higher app knows (`agents.roles`)."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PlannedTask":
        """Read a node from `Plan.content`."""
        return cls(
            key=data["key"],
            title=data["title"],
            role=data["role"],
            description=data.get("description", ""),
            depends_on=tuple(data.get("depends_on", ())),
            estimate_minutes=data.get("estimate_minutes", 0),
            acceptance_criteria=tuple(data.get("acceptance_criteria", ())),
            specialisation=data.get("specialisation", ""),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the node in the shape of `Plan.content`."""
        return asdict(self) | {
            "depends_on": list(self.depends_on),
            "acceptance_criteria": list(self.acceptance_criteria),
        }


def check_plan(tasks: Sequence[PlannedTask]) -> None:
    """Raise InvalidPlan with a sentence for each fault, unless the plan can be built."""
    if not tasks:
        raise InvalidPlan(["It has no tasks; it needs at least one."])
    if len(tasks) > MAX_TASKS:
        raise InvalidPlan([f"It has {len(tasks):,} tasks; at most {MAX_TASKS:,} are allowed."])
    problems = [*_node_problems(tasks), *_edge_problems(tasks)]
    if not problems and (cycle := find_cycle({task.key: task.depends_on for task in tasks})):
        problems = [f"Its tasks wait for each other in a circle: {' → '.join(cycle)}."]
    if problems:
        raise InvalidPlan(problems[:20])


def _node_problems(tasks: Sequence[PlannedTask]) -> Iterable[str]:
    seen: set[str] = set()
    for task in tasks:
        if not _KEY.fullmatch(task.key):
            yield f"The key “{task.key[:60]}” is not 1 to 48 of a-z, 0-9, - and _, starting with a letter or digit."
        if task.key in seen:
            yield f"The key “{task.key}” is used twice."
        seen.add(task.key)
        if not task.title.strip():
            yield f"Task “{task.key}” has no title."
        if task.role not in PLANNABLE_ROLES:
            known = ", ".join(sorted(PLANNABLE_ROLES))
            yield f"Task “{task.key}” names the unknown role “{task.role[:40]}”; use one of: {known}."
        if not _SPECIALISATION.fullmatch(task.specialisation):
            yield f"Task “{task.key}” names the specialisation “{task.specialisation[:40]}”, which cannot be one's key."
        if not 0 <= task.estimate_minutes <= MAX_MINUTES:
            yield f"The estimate of task “{task.key}” is not between 0 and {MAX_MINUTES:,} minutes."


def _edge_problems(tasks: Sequence[PlannedTask]) -> Iterable[str]:
    keys = {task.key for task in tasks}
    for task in tasks:
        for missing in sorted(set(task.depends_on) - keys):
            yield f"Task “{task.key}” depends on “{missing[:60]}”, which is not in the plan."
        if len(set(task.depends_on)) != len(task.depends_on):
            yield f"Task “{task.key}” names a dependency twice."


def find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the keys along one cycle (first = last), or nothing. Kahn's algorithm, then a walk through the rest."""
    children: dict[str, list[str]] = {key: [] for key in parents}
    unmet = {key: len(set(of)) for key, of in parents.items()}
    for key, of in parents.items():
        for parent in set(of):
            children[parent].append(key)
    free = deque(key for key, count in unmet.items() if count == 0)
    while free:
        key = free.popleft()
        del unmet[key]
        for child in children[key]:
            unmet[child] -= 1
            if unmet[child] == 0:
                free.append(child)
    return _walk(parents, unmet)


def _walk(parents: Mapping[str, Sequence[str]], stuck: Mapping[str, int]) -> list[str]:
    if not stuck:
        return []
    places: dict[str, int] = {}
    key = min(stuck)
    while key not in places:
        places[key] = len(places)
        key = next(parent for parent in parents[key] if parent in stuck)
    return [*list(places)[places[key] :], key][::-1]


def layers(parents: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the keys of an acyclic graph by depth: each is one layer below its deepest parent."""
    depth: dict[str, int] = {}
    pending = deque(parents)
    while pending:
        key = pending.popleft()
        if all(parent in depth for parent in parents[key]):
            depth[key] = 1 + max((depth[parent] for parent in parents[key]), default=-1)
        else:
            pending.append(key)
    result: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for key in parents:
        result[depth[key]].append(key)
    return result
