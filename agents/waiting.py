"""Why a ready task is not at work yet, in the order in which the dispatcher asks. Nothing is written here."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, F, Q

from agents import allocation
from agents.actions.agents import FREE
from agents.models import Agent, Run, Worker
from agents.states import ACTIVE_RUN, AgentStatus, Trust, WorkerStatus
from projects.actions.steps import root_of
from projects.models import ExecutionNode, Squad, Task
from projects.roles import Role
from projects.states import ACTIVE_PROJECT, ExecutionStatus, TaskKind, TaskStatus

# So long a run that began may take to make its directory: until then no reading of the disk has it.
MAKING = timedelta(seconds=15)
_AT_WORK = (TaskStatus.ALLOCATED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW)


def limits_of_house() -> dict[str, int]:
    """Return how many agents of a role, and with a tool, may be at work at a time, where that is limited."""
    return {**settings.EKLAVYA_TOOL_LIMITS, **settings.EKLAVYA_ROLE_LIMITS}


def active_of_roles() -> dict[str, int]:
    """Return how many agents of each role are at work, over all projects."""
    return dict(Run.objects.filter(status__in=ACTIVE_RUN).values_list("task__role").annotate(Count("pk")))


def workers_with_room() -> list[Worker]:
    """Return those that may take runs, by name, each with its `room`: places, and a disk on which their files fit."""
    is_active = Q(runs__status__in=ACTIVE_RUN)
    is_new = Q(runs__started_at=None) | Q(runs__started_at__gt=F("heartbeat_at") - MAKING)
    takes_runs = {"status__in": [WorkerStatus.ONLINE, WorkerStatus.BUSY], "cordoned_at": None, "reason": ""}
    busy, unmade = Count("runs", filter=is_active), Count("runs", filter=is_active & is_new)
    online = Worker.objects.filter(**takes_runs).annotate(busy=busy, unmade=unmade, room=F("capacity") - busy)
    found = list(online.filter(room__gt=0).order_by("name"))
    for worker in found:
        fits = allocation.fits_on_disk(worker.load, busy=worker.busy, unmade=worker.unmade)
        worker.room = worker.room if fits is None else min(worker.room, fits)
    return [worker for worker in found if worker.room > 0]


def why_waiting(task: Task, *, now: datetime) -> str:
    """Return in a sentence why a ready task of a project is not at work yet; "" for one that is not ready.

    At most nine statements, whatever there is.
    """
    if task.status != TaskStatus.READY:
        return ""
    if task.project.status not in ACTIVE_PROJECT:
        return "Its project is not being worked on."
    if task.next_attempt_at is not None and task.next_attempt_at > now:
        return "It is tried again after a pause."
    if task.kind in {TaskKind.STEP, TaskKind.CONFLICT} and _is_held(task):
        return "Its workflow is paused."
    return _house(task) or _project(task) or _worker(task) or "It begins in a moment."


def _is_held(task: Task) -> bool:
    return ExecutionNode.objects.filter(task=root_of(task), execution__status=ExecutionStatus.PAUSED).exists()


def _house(task: Task) -> str:
    active, most = active_of_roles(), settings.EKLAVYA_MAX_CONCURRENT_RUNS
    if sum(active.values()) >= most:
        return f"As many agents are at work as the house may have at a time: {most} (EKLAVYA_MAX_CONCURRENT_RUNS)."
    limits = limits_of_house()
    used_up = allocation.used_up(task.role, allocation.free_of_limits(limits, active))
    if task.role in used_up:
        who = f"As many agents of the role {Role(task.role).label} are at work"
        return f"{who} as the house may have at a time: {limits[task.role]} (EKLAVYA_ROLE_LIMITS)."
    if used_up:
        return f"As many agents use {used_up[0]} as may at a time: {limits[used_up[0]]} (EKLAVYA_TOOL_LIMITS)."
    return ""


def _project(task: Task) -> str:
    at_work = Task.objects.filter(project=task.project_id, status__in=_AT_WORK).count()
    most = Squad.objects.filter(project=task.project_id).values_list("max_concurrent_runs", flat=True).first()
    if most is not None and at_work >= most:
        return f"As many of its project's tasks are at work as its squad may have at a time: {most}."
    squad = Agent.objects.filter(project=task.project_id).exclude(status=AgentStatus.TERMINATED)
    its = Count("pk", filter=Q(agent_type=task.role))
    there = squad.aggregate(all=Count("pk"), its=its, free=Count("pk", filter=Q(agent_type=task.role, status__in=FREE)))
    who = Role(task.role).label
    # Before a project's first task its squad is not called in.
    if there["all"] and not there["its"]:
        return f"Its project's squad has no {who}."
    return f"No {who} of its project's squad is free." if there["all"] and not there["free"] else ""


def _worker(task: Task) -> str:
    workers = workers_with_room()
    if not allocation.is_sensitive(task.project):
        return "" if workers else "No worker has room for it."
    is_trusted = any(worker.trust == Trust.SENSITIVE for worker in workers)
    return "" if is_trusted else "No worker that may see sensitive projects has room for it."
