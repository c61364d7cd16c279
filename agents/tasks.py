"""Celery tasks of agents: ids in, one call, nothing decided here. Messages are hints; the sweep finds the lost.

Every process of Eklavya loads this module. What supervises runs brings the agents' SDK with it, which takes as long to
load as half of the rest: only workers that do runs load it, when they are announced.
"""
# ruff: noqa: PLC0415

import logging
import os
import threading
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

import psutil
from celery import shared_task
from django.conf import settings
from kombu.exceptions import OperationalError as BrokerAway

from agents import delivery, housekeeping, machine, partitions, upkeep
from agents.actions import messages, pulse, recovery, retention, runs, workers
from agents.actions.dispatch import Dispatched, Host
from agents.actions.dispatch import dispatch as dispatch_ready
from agents.actions.leases import Held
from agents.actions.workers import Registration
from agents.clock import house_now
from agents.models import supervising_queue
from agents.remote.runtime import runtime_of
from agents.runtimes.answering import Answering
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import choice, runtime
from agents.states import Trust
from agents.supervisor import orphans
from agents.supervisor.keeper import WORKER_STOPPING, LeaseKeeper
from projects.actions import conflicts
from projects.actors import Actor
from projects.models import Project, Task
from projects.sweeping import take_each

if TYPE_CHECKING:
    from agents.supervisor.standby import Standbys

logger = logging.getLogger(__name__)
# The next sweep asks again.
TIDY_EXPIRES_S = 15
# Whether this process is a worker that takes runs.
_announced = threading.Event()
# Whether nothing could run agents there when it was announced.
_lacks_runtime = threading.Event()
_answering = Answering()


@cache
def keeper() -> LeaseKeeper:
    """Return this process's lease keeper, beating from the first use on."""
    made = LeaseKeeper(
        f"{settings.EKLAVYA_WORKER_NAME}:{os.getpid()}:{int(psutil.Process().create_time())}",
        clock=house_now,
        on_beat=lambda now: _beat(made, now),
    )
    made.start()
    return made


@cache
def standbys() -> "Standbys":
    """Return this process's programs that wait for runs."""
    from agents.supervisor.standby import Standbys

    size, keep_s = settings.EKLAVYA_STANDBYS, settings.EKLAVYA_STANDBY_SECONDS
    return Standbys(keeper=keeper, runtime=runtime, clock=house_now, size=size, keep_s=keep_s)


def _beat(held_by: LeaseKeeper, now: datetime) -> None:
    behind_s = house_now.compare().total_seconds()
    # Without any, it is registered as such.
    of = runtime() if _announced.is_set() and not _lacks_runtime.is_set() else None
    problem = _answering.problem(of) if of is not None else ""
    reading = machine.read(settings.EKLAVYA_VAR, of=of, clock_behind_s=behind_s, runtime_problem=problem)
    workers.beat(settings.EKLAVYA_WORKER_NAME, running=held_by.held, reading=reading, now=now)
    pulse.note(now=house_now())  # what came before may have taken long


def announce_worker() -> None:
    """Register this process's machine as a worker and begin to beat. Called when the Celery worker is ready.

    A machine without a runtime is registered in error, so that people see why it gets nothing. Raises WorkerConflict.
    While the broker is away it is announced all the same: what is ready is then given out by the next sweep.
    """
    house_now.compare()
    _register(_registration())
    keeper()
    standbys()  # loaded before a run waits for it, and as the code is now: an update may come while this process works
    _announced.set()
    try:
        nudge()
    except BrokerAway as problem:
        logger.warning("this worker is announced, and asks for no runs yet: %s", problem)


def _register(given: Registration) -> None:
    workers.register_worker(given, now=house_now())
    (_lacks_runtime.set if given.problem else _lacks_runtime.clear)()


def _register_mended() -> None:
    """Register anew once there is what runs agents: it may begin after this worker, or begin again at that moment."""
    if _announced.is_set() and _lacks_runtime.is_set():
        given = _registration()
        if not given.problem:
            _register(given)
            nudge()


def _registration() -> Registration:
    given = Registration(
        name=settings.EKLAVYA_WORKER_NAME,
        queue=settings.EKLAVYA_WORKER_QUEUE,
        capacity=settings.EKLAVYA_WORKER_CAPACITY,
        runtime="",
        machine_id=settings.EKLAVYA_MACHINE_ID
        or machine.machine_id(settings.EKLAVYA_VAR, part=settings.EKLAVYA_MACHINE_PART),
        trust=Trust(settings.EKLAVYA_WORKER_TRUST),
    )
    try:
        chosen = choice()
    except RuntimeProblem as problem:
        logger.error("no runs on this machine: %s", problem)  # the sentence says it all
        info = machine.facts() | {"weaknesses": [str(problem)]}
        return replace(given, info=info, problem="runtime_unavailable")
    info = machine.facts() | {
        "isolated": chosen.runtime.isolated,
        "runtime_reason": chosen.reason,
        "weaknesses": list(chosen.weaknesses),
    }
    tools = machine.tools(runtime=chosen.runtime.name, isolated=chosen.runtime.isolated)
    return replace(given, runtime=chosen.runtime.name, tools=tools, info=info)


def retire_worker() -> None:
    """End this process's runs in good order: their tasks go back without losing an attempt. Called on shutdown."""
    _announced.clear()
    stopped = keeper().stop_all(WORKER_STOPPING)
    # In this order: what is taken back must not be given to this worker again.
    workers.sign_off(settings.EKLAVYA_WORKER_NAME, now=house_now())
    waiting = recovery.hand_over_queued(settings.EKLAVYA_WORKER_NAME, now=house_now())
    standbys().close()
    logger.info("worker stops, %s runs handed back and %s that waited", stopped, waiting)


def nudge() -> None:
    """Ask some worker to dispatch what is ready."""
    dispatch.delay()


@shared_task(ignore_result=True)
def dispatch() -> None:
    """Make runs for ready tasks and send each to its worker. One of them this worker, if it is one, does right here."""
    if not _announced.is_set():
        dispatch_ready(now=house_now(), send=_send)
        return
    from agents.supervisor.early import EarlyStart

    with EarlyStart(standbys()) as early:
        host = Host(settings.EKLAVYA_WORKER_NAME, keeper().owner, early.begin, early.reserve)
        dispatch_ready(now=house_now(), send=_send, host=host)


def _send(made: list[Dispatched]) -> None:
    """One message for each worker: what it costs to send and to receive is shared by all of its runs."""
    queues: dict[str, list[str]] = defaultdict(list)
    for run in made:
        queues[run.queue].append(str(run.run_id))
    for queue, run_ids in queues.items():
        supervise_runs.apply_async(kwargs={"run_ids": run_ids}, queue=supervising_queue(queue))


# No time limit of Celery's: a run has its own, and killing the thread's process would lose all the others.
@shared_task(ignore_result=True)
def supervise_runs(*, run_ids: list[str]) -> None:
    """Do runs from claim to end."""
    from agents.supervisor.several import supervise_all

    supervise_all([UUID(run_id) for run_id in run_ids], keeper=keeper(), clock=house_now, supervise=_supervise)


def _supervise(held: Held) -> None:
    from agents.supervisor.supervise import ignore, supervise_held

    is_elsewhere = held.run.worker is not None and held.run.worker.is_remote
    of = runtime_of(held.run.pk) if is_elsewhere else runtime()
    # What follows a run on a machine elsewhere probably goes there too.
    expect = ignore if is_elsewhere else standbys().expect
    supervise_held(held, keeper=keeper(), runtime=of, clock=house_now, expect=expect)


@shared_task(ignore_result=True)
def deliver(*, project_id: str) -> None:
    """Complete a project if all of its tasks are."""
    delivery.deliver(UUID(project_id), clock=house_now)


@shared_task(ignore_result=True)
def stop_runs(*, project_id: str, reason: str) -> None:
    """End the active runs of a project that was paused or cancelled."""
    project = Project.objects.get(pk=project_id)
    runs.ask_to_stop(project, reason=reason, by=Actor.system("lifecycle"), now=house_now())


@shared_task(ignore_result=True)
def stop_runs_at(*, task_id: str, reason: str) -> None:
    """End the active run at a task that was cancelled or given to somebody else."""
    task = Task.objects.select_related("project").get(pk=task_id)
    runs.ask_to_stop(task.project, reason=reason, task=task, by=Actor.system("lifecycle"), now=house_now())


# No time limit, as above: each command of Git has its own.
@shared_task(ignore_result=True)
def maintain() -> None:
    """Keep the projects' repositories in order. Safe to run twice at once, and at any time."""
    housekeeping.maintain(now=house_now())


@shared_task(ignore_result=True)
def forget_messages() -> None:
    """Delete messages that nobody waits for any more."""
    now = house_now()
    while messages.forget_old(now=now):
        pass


@shared_task(ignore_result=True)
def keep_transcripts() -> None:
    """Make the next weeks' partitions and drop those past their time. Safe to run twice at once, and at any time."""
    now = house_now()
    partitions.make_ahead(now)
    if partitions.may_drop():
        retention.prune_transcripts(now=now)
    elif expired := retention.expired(now=now):
        logger.warning("%s weeks of transcripts are past their time: run manage.py prune_transcripts", len(expired))


# No time limit: it has its own for each table and for all.
@shared_task(ignore_result=True)
def keep_statistics() -> None:
    """Vacuum and analyse what autovacuum has not got to. Safe to run twice at once, and at any time."""
    upkeep.look_after()


@shared_task(ignore_result=True)
def sweep() -> None:
    """Look after what messages and dead processes left behind. Safe to run twice at once, and at any time.

    A step that breaks does not keep the others: what it should have done waits for the next sweep, and for people who
    read the log.
    """
    house_now.compare()  # a process of light work does not beat
    now = house_now()
    take_each(
        lambda: _end_silent(now),
        lambda: workers.notice_shut_out(now=now),
        lambda: recovery.end_silent_runs(now=now),
        lambda: recovery.stop_unwanted(now=now),
        lambda: recovery.stop_at_cancelled(now=now),
        lambda: recovery.cancel_leftovers(now=now),
        lambda: _send(recovery.requeue(now=now)),
        lambda: recovery.escalate_unanswered(now=now),
        lambda: conflicts.ask_about_unresolved(by=recovery.SWEEP, now=now),
        lambda: dispatch_ready(now=now, send=_send),
        lambda: _deliver_built(now),
        _tidy_all,
    )


def _end_silent(now: datetime) -> None:
    if pulse.is_steady(now=now):
        take_each(lambda: workers.notice_silent(now=now), lambda: recovery.end_lost_runs(now=now))


def _deliver_built(now: datetime) -> None:
    for project_id in recovery.undelivered(now=now):
        deliver.delay(project_id=str(project_id))


def _tidy_all() -> None:
    for queue in workers.listening_queues():
        tidy.apply_async(queue=queue, expires=TIDY_EXPIRES_S)


@shared_task(ignore_result=True)
def tidy() -> None:
    """Clear up after dead processes on this machine: what they left, only a worker of the same machine sees."""
    _register_mended()
    orphans.clear(runtime(), now=house_now(), expected=standbys().ids)
    # Last: what belongs to no run any more is out of them by now.
    housekeeping.remove_idle_networks(runtime())
