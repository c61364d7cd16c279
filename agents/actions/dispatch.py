"""Giving ready tasks to free agents on free workers, as many as fit: some at a time, each time one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, IntegerField, OuterRef, Subquery
from django.db.models.functions import Coalesce

from agents import allocation, waiting
from agents.actions import agents, leases
from agents.actions.leases import Held, Reserved
from agents.matching import FreeAgent, Match, Room
from agents.models import Agent, Run, Worker
from agents.prompts import prompt_version_for
from agents.roles import limits_of_run, specialisations_of
from agents.states import ACTIVE_RUN
from billing import actions as billing
from projects import audit, queries
from projects.actions import tasks
from projects.actors import Actor
from projects.bulk import insert_all
from projects.ids import new_id
from projects.models import Task
from projects.queries import Candidate
from projects.roles import Role
from projects.states import TaskStatus

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
    # Whether it still can see to a run for which no program waits: to one at once.
    is_free: bool = True


Send = Callable[[list[Dispatched]], None]
# So many are given out in a transaction: what the statements cost is shared, and the first begin while others follow.
AT_ONCE = 250
# Of candidates more are looked at than there are places, for some have no free agent: threefold, and at most so many.
MOST_LEFT = 150


@dataclass(frozen=True)
class _Given:
    """A task that was given to an agent: the run that is to be saved, its limit, and whether a program waits for it."""

    run: Run
    limit: Decimal
    made: Dispatched
    is_awaited: bool


def dispatch(*, now: datetime, send: Send | None = None, host: Host | None = None) -> list[Dispatched]:
    """Make runs for ready tasks, as many as workers, agents, projects, roles, tools and the account have room for.

    `send` puts them into their workers' queues: right after the commit, before the news of it is published. A lost
    message is found by `recovery.requeue`. One run for `host`, and each for which a program waits there, is begun here.
    """
    given: list[_Given] = []
    is_last = False
    while not is_last:
        with audit.journal(by=SCHEDULER, now=now, is_whole=True):
            matches = _match(now=now)
            some = _give(matches, _left_of(host, given), now=now)
            _send([one.made for one in some], send)
        given += some
        is_last = len(matches) < AT_ONCE or not some
    return [one.made for one in given]


def _send(made: Sequence[Dispatched], send: Send | None) -> None:
    others = [one for one in made if not one.is_begun]
    if others and send is not None:
        # A broker that is away must not keep the news of what is committed; that it was, is in the log.
        transaction.on_commit(lambda: send(others), robust=True)


def be_alone() -> None:
    """Wait for whoever dispatches now, and let nobody else until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_ID])


def _match(*, now: datetime) -> list[Match]:
    # Two dispatchers that count at once would both see the last free place. Waiting, rather than leaving it to the
    # other, matters too: it may have looked before this caller's task became ready.
    be_alone()
    workers = waiting.workers_with_room()
    if not workers:
        return []
    active = Run.objects.filter(status__in=ACTIVE_RUN).count()
    free = sum(worker.room for worker in workers)  # type: ignore[attr-defined]
    most = min(settings.EKLAVYA_MAX_CONCURRENT_RUNS - active, free, AT_ONCE)
    if most <= 0:
        return []
    free_of_limit = _free_of_limit()
    # Those that wait for a role or a tool must not fill the list before those that do not.
    lacking = [role for role in Role if allocation.used_up(role, free_of_limit)]
    limit = most + min(3 * most, MOST_LEFT) + 20
    candidates = _locked(queries.dispatchable(now=now, limit=limit, without=lacking))
    if not candidates:
        return []
    return _room(most, workers, candidates, free_of_limit, now=now).match(candidates)


def _locked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Lock the candidates that nobody else has just now; return those of them that are still as they were found."""
    mine = Task.objects.select_for_update(skip_locked=True).filter(
        pk__in=[candidate.task_id for candidate in candidates], status=TaskStatus.READY
    )
    found = {pk: (role, narrowed) for pk, role, narrowed in mine.values_list("pk", "role", "specialisation")}
    return [one for one in candidates if found.get(one.task_id) == (one.role, one.specialisation)]


def _give(matches: Sequence[Match], host: Host | None, *, now: datetime) -> list[_Given]:
    """Make the runs of what was matched, which is locked."""
    if not matches:
        return []
    earlier = Run.objects.filter(task=OuterRef("pk")).order_by().values("task").annotate(n=Count("pk")).values("n")
    # A project, and a member of its squad, is read once for all that share it.
    whole = Task.objects.prefetch_related("project").annotate(
        runs_so_far=Coalesce(Subquery(earlier, output_field=IntegerField()), 0)
    )
    by_id = whole.in_bulk([match.candidate.task_id for match in matches])
    squad = Agent.objects.prefetch_related("member").in_bulk([match.agent_id for match in matches])
    given: list[_Given] = []
    for match in matches:
        task, agent = by_id[match.candidate.task_id], squad[match.agent_id]
        if allocation.is_sensitive(task.project) == match.candidate.is_sensitive:  # or it became so in this moment
            given.append(_make(task, agent, match.decision, _left_of(host, given), now=now))
    if given:
        _record(given, now=now)
    return given


def _left_of(host: Host | None, given: Sequence[_Given]) -> Host | None:
    """Return the host as it is after what it was given: one run at once without a program that waits."""
    is_taken = any(one.made.is_begun and not one.is_awaited for one in given)
    return replace(host, is_free=False) if host is not None and is_taken else host


def _free_of_limit() -> dict[str, int]:
    limits = waiting.limits_of_house()
    return allocation.free_of_limits(limits, waiting.active_of_roles()) if limits else {}


def _room(
    runs: int,
    workers: list[Worker],
    candidates: Sequence[Candidate],
    free_of_limit: dict[str, int],
    *,
    now: datetime,
) -> Room:
    projects = {candidate.project_id for candidate in candidates}
    agents.spawn_agents(projects, by=SCHEDULER, now=now)
    free = Agent.objects.select_for_update(skip_locked=True).filter(project__in=projects, status__in=agents.FREE)
    return Room(
        runs=runs,
        workers=workers,
        free_of_worker={worker.pk: worker.room for worker in workers},  # type: ignore[attr-defined]
        free_of_project={candidate.project_id: candidate.room for candidate in candidates},
        free_of_limit=free_of_limit,
        agents=[FreeAgent(*row) for row in free.values_list(*FreeAgent._fields)],
    )


def _make(task: Task, agent: Agent, decision: allocation.Decision, host: Host | None, *, now: datetime) -> _Given:
    """Make a run, not saved yet, and hold it where the dispatching process begins it itself."""
    run = _new_run(task, agent, decision, now=now)
    limits = limits_of_run(run)
    run.max_turns = limits.turns
    reserved = None
    if host is not None and host.worker == decision.worker.name:
        run.prompt_version_id = prompt_version_for(task.role, pinned=run.prompt_version_id)
        reserved = host.reserve(run)
        if reserved is not None or host.is_free:
            held = _hold(run, reserved, owner=host.owner, now=now)
            # Before the news of it is published, and not before it is there: its program shows its token soon.
            transaction.on_commit(partial(host.begin, held))
    made = Dispatched(run.pk, decision.worker.queue, is_begun=run.lease_owner != "")
    return _Given(run, limits.cost, made, is_awaited=reserved is not None)


def _hold(run: Run, reserved: Reserved | None, *, owner: str, now: datetime) -> Held:
    if reserved is None:
        return Held(run, leases.lease(run, owner=owner, now=now))
    run.pk = reserved.run_id
    return Held(run, leases.lease(run, owner=owner, token=reserved.token, now=now))


def _new_run(task: Task, agent: Agent, decision: allocation.Decision, *, now: datetime) -> Run:
    assert agent.member is not None, "an agent outlives its squad only in a deleted project"
    return Run(
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


def _record(given: Sequence[_Given], *, now: datetime) -> None:
    """Write down what was given out: the same statements for one and for many."""
    made = [one.run for one in given]
    tasks.allocate_tasks([(run.task, run.agent_id) for run in made], by=SCHEDULER, now=now)
    agents.begin_work([(run.agent, run.task) for run in made], by=SCHEDULER, now=now)
    insert_all(Run, made)
    openings = [billing.Opening(one.run.project, one.run.pk, one.limit, one.run.agent_id) for one in given]
    billing.open_budgets(openings, now=now)
    with audit.journal(by=SCHEDULER, now=now) as journal:
        for one in given:
            run, details = one.run, _details(one)
            journal.add("run.queued", project_id=run.project_id, agent_id=run.agent_id, obj=run, details=details)


def _details(given: _Given) -> dict[str, Any]:
    run = given.run
    assert run.worker is not None
    details = {"task": run.task.key, "attempt": run.attempt, "worker": run.worker.name, "model": run.model}
    details |= {"allocation": run.allocation}
    if given.is_awaited:
        details["standby"] = True
    if run.specialisations:
        details["specialisations"] = run.specialisations
    return details
