"""Giving ready tasks to free agents on free workers: one transaction for as many as fit."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, IntegerField, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from agents import allocation
from agents.actions import agents, runs
from agents.actions.runs import Held, Reserved
from agents.models import Agent, Run, Worker
from agents.prompts import prompt_version_for
from agents.roles import limits_of_run, specialisations_of
from agents.states import ACTIVE_RUN, AgentStatus, WorkerStatus
from billing import actions as billing
from projects import audit, queries
from projects.actions import tasks
from projects.actors import Actor
from projects.ids import new_id
from projects.models import Task
from projects.roles import Role

SCHEDULER = Actor.system("scheduler")
# Any constant: the id of the advisory lock that lets one dispatcher count at a time.
_LOCK_ID = 0x656B_6C76


@dataclass(frozen=True)
class Dispatched:
    """A run that was made and the queue of the worker that should take it, unless the dispatching process has it."""

    run_id: UUID
    queue: str
    is_begun: bool = False


@dataclass(frozen=True)
class Host:
    """The worker that the dispatching process is itself, as whom it holds leases, and what begins a run that it holds.

    `begin` is called right after the commit and must not wait: others hear of what was committed after it. `reserve`
    says with what id and token a run is to be made, where a program already waits for one like it.
    """

    worker: str
    owner: str
    begin: Callable[[Held], None]
    reserve: Callable[[Run], Reserved | None] = lambda _: None


Send = Callable[[list[Dispatched]], None]


@dataclass
class _Room:
    """What is free right now, used up as tasks are handed out."""

    runs: int
    workers: list[Worker]
    free_of_worker: dict[UUID, int]
    free_of_project: dict[UUID, int]
    free_of_tool: dict[str, int]
    agents: dict[tuple[UUID, str], list[Agent]] = field(default_factory=lambda: defaultdict(list))
    # Who dispatches, and whether it still can see to a run for which no program waits: to one at once.
    host: Host | None = None
    is_host_free: bool = True

    def take_worker(self, task: Task) -> allocation.Decision | None:
        """Return the worker that suits the task best, with one place less."""
        decision = allocation.choose(self.workers, self.free_of_worker, allocation.wanted_by(task))
        if decision is not None:
            self.free_of_worker[decision.worker.pk] -= 1
        return decision


def dispatch(*, now: datetime, send: Send | None = None, host: Host | None = None) -> list[Dispatched]:
    """Make runs for ready tasks, as many as workers, agents, projects and the account have room for.

    `send` puts them into their workers' queues: right after the commit, before the news of it is published. A lost
    message is found by `recovery.requeue`. One run for `host`, and each for which a program waits there, is begun here.
    """
    with audit.journal(by=SCHEDULER, now=now, is_whole=True):
        made = _dispatch(host, now=now)
        sent = [one for one in made if not one.is_begun]
        if sent and send is not None:
            # A broker that is away must not keep the news of what is committed; that it was, is in the log.
            transaction.on_commit(lambda: send(sent), robust=True)
    return made


def be_alone() -> None:
    """Wait for whoever dispatches now, and let nobody else until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_ID])


def _dispatch(host: Host | None, *, now: datetime) -> list[Dispatched]:
    # Two dispatchers that count at once would both see the last free place. Waiting, rather than leaving it to the
    # other, matters too: it may have looked before this caller's task became ready.
    be_alone()
    workers = _workers_with_room()
    if not workers:
        return []
    active = Run.objects.filter(status__in=ACTIVE_RUN).count()
    most = min(settings.EKLAVYA_MAX_CONCURRENT_RUNS - active, sum(w.room for w in workers))  # type: ignore[attr-defined]
    if most <= 0:
        return []
    free_of_tool = _free_of_tool()
    # Those that lack a tool must not fill the list before those that do not.
    lacking = [role for role in Role if _lacks(role, free_of_tool)]
    candidates = queries.dispatchable(now=now, limit=4 * most + 20, without=lacking)
    if not candidates:
        return []
    room = _room(most, workers, candidates, free_of_tool, now=now)
    room.host = host
    earlier = Run.objects.filter(task=OuterRef("pk")).order_by().values("task").annotate(n=Count("pk")).values("n")
    locked = {
        task.pk: task
        for task in Task.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("project")
        .annotate(runs_so_far=Coalesce(Subquery(earlier, output_field=IntegerField()), 0))
        .filter(pk__in=[candidate.task_id for candidate in candidates], status="ready")
    }
    chosen = (locked[candidate.task_id] for candidate in candidates if candidate.task_id in locked)
    return [run for task in chosen if (run := _hand_out(task, room, now=now))]


def _workers_with_room() -> list[Worker]:
    busy = Count("runs", filter=Q(runs__status__in=ACTIVE_RUN))
    takes_runs = {"status__in": [WorkerStatus.ONLINE, WorkerStatus.BUSY], "cordoned_at": None, "reason": ""}
    online = Worker.objects.filter(**takes_runs).annotate(room=F("capacity") - busy)
    return list(online.filter(room__gt=0).order_by("name"))


def _free_of_tool() -> dict[str, int]:
    limits = settings.EKLAVYA_TOOL_LIMITS
    if not limits:
        return {}
    active = Run.objects.filter(status__in=ACTIVE_RUN).values_list("task__role").annotate(Count("pk"))
    return allocation.free_of_tools(limits, dict(active))


def _lacks(role: str, free_of_tool: dict[str, int]) -> bool:
    return any(free_of_tool.get(tool, 1) <= 0 for tool in allocation.tools_of(role))


def _room(
    runs: int,
    workers: list[Worker],
    candidates: list[queries.Candidate],
    free_of_tool: dict[str, int],
    *,
    now: datetime,
) -> _Room:
    projects = {candidate.project_id for candidate in candidates}
    agents.spawn_agents(projects, by=SCHEDULER, now=now)
    room = _Room(
        runs=runs,
        workers=workers,
        free_of_worker={worker.pk: worker.room for worker in workers},  # type: ignore[attr-defined]
        free_of_project={candidate.project_id: candidate.room for candidate in candidates},
        free_of_tool=free_of_tool,
    )
    free = Agent.objects.select_for_update(skip_locked=True, of=("self",)).filter(
        project__in=projects, status__in=agents.FREE
    )
    for agent in free.select_related("member").order_by("-status", "name"):
        room.agents[agent.project_id, agent.agent_type].append(agent)
    return room


def _hand_out(task: Task, room: _Room, *, now: datetime) -> Dispatched | None:
    free_agents = room.agents[task.project_id, task.role]
    if room.runs <= 0 or room.free_of_project.get(task.project_id, 0) <= 0 or not free_agents:
        return None
    if _lacks(task.role, room.free_of_tool):
        return None
    decision = room.take_worker(task)
    if decision is None:
        return None
    room.runs -= 1
    room.free_of_project[task.project_id] -= 1
    for tool in allocation.tools_of(task.role) & room.free_of_tool.keys():
        room.free_of_tool[tool] -= 1
    # Who was asked before knows the task; otherwise a ready agent goes before one that waits for an answer.
    agent = next((a for a in free_agents if str(a.pk) == task.context.get("agent")), None)
    agent = agent or min(free_agents, key=lambda a: (_misfit(a, task), a.status != AgentStatus.READY, a.name))
    free_agents.remove(agent)
    run = _new_run(task, agent, decision, now=now)
    reserved = None
    host = room.host if room.host is not None and room.host.worker == decision.worker.name else None
    if host is not None:
        run.prompt_version_id = prompt_version_for(task.role, pinned=run.prompt_version_id)
        reserved = host.reserve(run)
    is_begun = host is not None and (reserved is not None or room.is_host_free)
    if host is not None and is_begun:
        room.is_host_free &= reserved is not None
        held = _hold(run, reserved, owner=host.owner, now=now)
        # Before the news of it is published, and not before it is there: its program shows its token within a second.
        transaction.on_commit(partial(host.begin, held))
    _record(run, is_awaited=reserved is not None, now=now)
    return Dispatched(run.pk, decision.worker.queue, is_begun=is_begun)


def _hold(run: Run, reserved: Reserved | None, *, owner: str, now: datetime) -> Held:
    if reserved is None:
        return Held(run, runs.lease(run, owner=owner, now=now))
    run.pk = reserved.run_id
    return Held(run, runs.lease(run, owner=owner, token=reserved.token, now=now))


def _misfit(agent: Agent, task: Task) -> int:
    """Order agents by their own specialisation: the task's before none before another, which both narrow the work."""
    return 0 if agent.specialisation == task.specialisation else 1 if not agent.specialisation else 2


def _new_run(task: Task, agent: Agent, decision: allocation.Decision, *, now: datetime) -> Run:
    assert agent.member is not None, "an agent outlives its squad only in a deleted project"
    run = Run(
        id=new_id(),
        project=task.project,
        task=task,
        agent=agent,
        worker=decision.worker,
        attempt=task.runs_so_far + 1,  # type: ignore[attr-defined]
        allocation=decision.reasons,
        runtime=decision.worker.runtime,
        model=agent.member.model,
        prompt_version_id=agent.member.prompt_version_id,
        specialisations=specialisations_of(agent, task),
        created_at=now,
    )
    run.max_turns = limits_of_run(run).turns
    return run


def _record(run: Run, *, is_awaited: bool, now: datetime) -> None:
    task, agent = run.task, run.agent
    tasks.allocate_task(task, agent_id=agent.pk, by=SCHEDULER, now=now)
    agents.begin_work(agent, task, by=SCHEDULER, now=now)
    run.save(force_insert=True)
    limit = limits_of_run(run).cost
    billing.open_budgets(task.project, run_id=run.pk, run_limit=limit, agent_id=agent.pk, now=now)
    assert run.worker is not None
    details = {"task": task.key, "attempt": run.attempt, "worker": run.worker.name, "model": run.model}
    details |= {"allocation": run.allocation}
    if is_awaited:
        details["standby"] = True
    if run.specialisations:
        details["specialisations"] = run.specialisations
    with audit.journal(by=SCHEDULER, now=now) as journal:
        journal.add("run.queued", project_id=run.project_id, agent_id=agent.pk, obj=run, details=details)
