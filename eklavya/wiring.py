"""Tying the apps together: what lower apps need from higher ones, and who hears which news.

The only module that knows all apps. `connect` runs once per process, when Django is ready.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock, Thread
from typing import Any
from uuid import UUID

from celery import signals
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.models import QuerySet
from kombu.exceptions import OperationalError as BrokerAway

from agents import prompts
from agents.errors import WorkerConflict
from agents.models import Agent, Run
from agents.supervisor.connections import AWAY
from agents.tasks import announce_worker, deliver, nudge, retire_worker, stop_runs, stop_runs_at
from billing import levels
from billing import pages as money
from demos.tasks import open_demo_for
from eklavya import account_log
from eklavya.tasks import after_run
from learning import queries as learning
from projects import events
from projects.events import Published
from projects.live import News, broadcast_many
from projects.queries import SKIPPED
from projects.roles import Role
from projects.states import TaskKind
from projects.tasks import keep_workflows, send_webhooks
from projects.webhooks.queries import listens
from projects.workflows import hosting

logger = logging.getLogger(__name__)
Reaction = Callable[[Published], object]
ANNOUNCE_AGAIN_S = 1

# Taken by the first signal that ends this process's worker, for good.
_retiring = Lock()


def connect() -> None:
    """Register everything. Idempotent."""
    account_log.connect()
    prompts.register(_prompt)
    levels.register_agent_names(_agent_names)
    money.register_rehearsed_runs(_rehearsed_runs)
    events.subscribe(_react)  # first: agents wait for it
    events.subscribe(_tell_browsers)
    events.subscribe(_tell_receivers)
    # Celery's own signals: its only way to tell a program that a worker begins and ends.
    signals.worker_ready.connect(_begin_worker, dispatch_uid="begin_worker")
    signals.worker_shutting_down.connect(_end_worker, dispatch_uid="end_worker")


def _begin_worker(**_: object) -> None:
    """Announce this machine and begin a runner. Light work has no runs to announce, and forks: it gets no threads here,
    and its processes get their runners by a message."""
    if settings.EKLAVYA_WORKER != "light" and _announce():
        hosting.ensure()


def _announce() -> bool:
    """Announce this machine, as soon as the servers answer; whether that was done and not this process ended.

    Celery works on after whatever is raised here: a worker that nobody knows would take no run as long as it lives.
    """
    while not _retiring.locked():
        try:
            announce_worker()
        except WorkerConflict as conflict:
            # It listens already: what it took from the other one's queue would be done, but beside what that counts.
            logger.critical("%s", conflict)
            _retiring.acquire(blocking=False)  # the row is not ours to sign off
            os.kill(os.getpid(), signal.SIGTERM)
        except (*AWAY, BrokerAway) as problem:
            logger.warning("this worker takes no runs yet: %s", problem)
            close_old_connections()
            time.sleep(ANNOUNCE_AGAIN_S)
        else:
            return True
    return False


def _end_worker(**_: object) -> None:
    """Retire in a thread of its own, once. Celery calls this in a signal handler, and again at a second signal: there
    a lock or a connection that the interrupted main thread holds would never be let go."""
    if _retiring.acquire(blocking=False):
        Thread(target=_retire, name="retirement").start()


def _retire() -> None:
    try:
        if settings.EKLAVYA_WORKER != "light":
            retire_worker()  # first: agents need the time there is to save their work
    finally:
        hosting.stop()
        connections.close_all()


def _prompt(role: Role, version_id: UUID | None) -> prompts.Prompt:
    return prompts.Prompt(*learning.active_prompt(role, pinned=version_id))


def _agent_names(ids: Sequence[UUID]) -> dict[UUID, str]:
    return dict(Agent.objects.filter(pk__in=ids).values_list("pk", "name"))


def _rehearsed_runs() -> QuerySet[Run, Any]:
    return Run.objects.filter(rehearsal=True).values("pk")


def _tell_browsers(rows: Sequence[Published]) -> None:
    """Send the live events among committed rows to whoever watches."""
    broadcast_many(
        News({"id": str(row.id), "type": row.event_type, "payload": row.event_payload}, row.project_id)
        for row in rows
        if row.event_type
    )


def _tell_receivers(rows: Sequence[Published]) -> None:
    """Have webhooks sent when there is an event and somebody listens, or somebody asked for it."""
    is_asked = any(row.action in {"webhook.tested", "webhook.redelivered"} for row in rows)
    if is_asked or (any(row.event_type for row in rows) and listens()):
        send_webhooks.delay()


def _stop(reason: str, row: Published) -> None:
    stop_runs.delay(project_id=str(row.project_id), reason=reason)


def _completed(row: Published) -> None:
    match row.details["kind"]:
        case TaskKind.DEMO:
            open_demo_for.delay(task_id=row.object_id)
        case TaskKind.BUILD:
            deliver.delay(project_id=str(row.project_id))


def _cancelled(row: Published) -> None:
    # A whole project's are stopped at once; and one that nobody works on has no run.
    if row.details["reason"] not in {"project_cancelled", "project_archived"} and row.details["was_running"]:
        stop_runs_at.delay(task_id=row.object_id, reason="cancelled")
    if row.details["reason"] == SKIPPED:
        deliver.delay(project_id=str(row.project_id))  # it may have been the last


def _reassigned(row: Published) -> None:
    if row.details["was_running"]:
        stop_runs_at.delay(task_id=row.object_id, reason="reassigned")


def _execution_ended(row: Published) -> None:
    """Its other tasks are over, and the project may have waited for it."""
    keep_workflows.delay()
    if row.project_id:
        deliver.delay(project_id=str(row.project_id))


# After which news there may be something to dispatch: a task is ready, or an agent or a project is free to do it.
_NUDGING = frozenset(
    {
        "task.ready",
        "task.set_back",
        "task.completed",
        "task.reassigned",
        "execution.running",
        "project.planning",
        "project.demo",
        "project.building",
    }
)
# What else follows from which news. Each is only a hint to a worker; the periodic sweeps find what gets lost.
_REACTIONS: dict[str, Reaction] = {
    "task.completed": _completed,
    "task.cancelled": _cancelled,
    "task.reassigned": _reassigned,
    "execution.completed": _execution_ended,
    "execution.failed": _execution_ended,
    "execution.cancelled": _execution_ended,
    "run.ended": lambda row: after_run.delay(run_id=row.object_id),
    "project.paused": partial(_stop, "paused"),
    "project.cancelled": partial(_stop, "cancelled"),
}


def _react(rows: Sequence[Published]) -> None:
    """Set off what follows. Dispatching comes first, and once for a batch: agents wait for it, nobody for the rest."""
    if any(row.action in _NUDGING for row in rows):
        nudge()
    for row in rows:
        if reaction := _REACTIONS.get(row.action):
            reaction(row)
