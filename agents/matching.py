"""Who does what, and where: ready tasks, free agents and workers with room, put together. Nothing is asked here."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from agents import allocation
from agents.allocation import Decision
from agents.models import Worker
from agents.states import AgentStatus
from projects.queries import Candidate


class FreeAgent(NamedTuple):
    """What is asked of an agent that could take a task: columns of its row."""

    pk: UUID
    project_id: UUID
    agent_type: str
    status: str
    name: str
    specialisation: str


@dataclass(frozen=True)
class Match:
    """A task, who gets it, and the worker on which its run is to be."""

    candidate: Candidate
    agent_id: UUID
    decision: Decision


class Room:
    """What is free right now, used up as tasks are matched. The counts are for each worker, project, and limited role
    or tool.

    Each of `workers` and each candidate's project has its count.
    """

    def __init__(
        self,
        *,
        runs: int,
        workers: Sequence[Worker],
        free_of_worker: dict[UUID, int],
        free_of_project: dict[UUID, int],
        free_of_limit: dict[str, int],
        agents: Iterable[FreeAgent],
    ) -> None:
        self._runs = runs
        self._workers = workers
        self._free_of_worker = free_of_worker
        self._free_of_project = free_of_project
        self._free_of_limit = free_of_limit
        self._agents: dict[tuple[UUID, str], list[FreeAgent]] = defaultdict(list)
        for agent in agents:
            self._agents[agent.project_id, agent.agent_type].append(agent)

    def match(self, candidates: Iterable[Candidate]) -> list[Match]:
        """Go through the candidates in their order, and match each for which all that it needs is free."""
        return [found for candidate in candidates if self._runs > 0 and (found := self._match(candidate))]

    def _match(self, candidate: Candidate) -> Match | None:
        free = self._agents[candidate.project_id, candidate.role]
        if not free or self._free_of_project[candidate.project_id] <= 0:
            return None
        if allocation.used_up(candidate.role, self._free_of_limit):
            return None
        decision = allocation.choose(self._workers, self._free_of_worker, allocation.wanted_by(candidate))
        if decision is None:
            return None
        agent = _choose(free, candidate)
        free.remove(agent)
        self._runs -= 1
        self._free_of_worker[decision.worker.pk] -= 1
        self._free_of_project[candidate.project_id] -= 1
        for name in allocation.counted_as(candidate.role) & self._free_of_limit.keys():
            self._free_of_limit[name] -= 1
        return Match(candidate, agent.pk, decision)


def _choose(free: Sequence[FreeAgent], candidate: Candidate) -> FreeAgent:
    """Who was asked before knows the task; otherwise a ready agent goes before one that waits for an answer."""
    before = next((agent for agent in free if str(agent.pk) == candidate.agent), None)
    return before or min(free, key=lambda a: (_misfit(a, candidate), a.status != AgentStatus.READY, a.name))


def _misfit(agent: FreeAgent, candidate: Candidate) -> int:
    """Order agents by their own specialisation: the task's before none before another, which both narrow the work."""
    return 0 if agent.specialisation == candidate.specialisation else 1 if not agent.specialisation else 2
