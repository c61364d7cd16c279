"""What is done about runs that nobody holds any more. Plain code, once per run, never a recovery of a recovery."""

import logging
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Subquery
from django.db.models.functions import Coalesce

from agents.actions import outcomes, recoveries, runs
from agents.actions.dispatch import Dispatched
from agents.actions.runs import Ending
from agents.models import Run, RunEvent
from agents.sandboxes import repository
from agents.states import ACTIVE_RUN, RunStatus, WorkerStatus
from agents.workspace.errors import UnknownCommit
from projects import audit, queries
from projects.actions import tasks
from projects.actions.tasks import Setback
from projects.actors import Actor
from projects.errors import DomainError, StaleState
from projects.models import Project, Task
from projects.states import (
    ACTIVE_PROJECT,
    GIVEN_UP_PROJECT,
    OPEN_TASK,
    ApprovalKind,
    ProjectStatus,
    TaskKind,
    TaskStatus,
)

logger = logging.getLogger(__name__)
SWEEP = Actor.system("sweep")
# A message that was not picked up for so long was lost, or its worker is gone.
QUEUED_PATIENCE = timedelta(seconds=10)
# Delivery is under way long before.
DELIVERY_PATIENCE = timedelta(seconds=30)
# Beyond twice the time after which a supervisor ends a silent agent.
GRACE = timedelta(minutes=1)
# Whose machine died so often was perhaps the reason.
MAX_LOST = 5


def end_lost_runs(*, now: datetime) -> list[Run]:
    """End the runs whose lease ran out, each in its own transaction, and return them. Their tasks are tried again.

    A run that had moved main before its supervisor died is completed instead: its work is in.
    """
    ended = []
    expired = Run.objects.filter(status__in=ACTIVE_RUN, lease_until__lt=now).values_list("pk", flat=True)
    for run_id in list(expired):
        try:
            with audit.journal(by=SWEEP, now=now):
                run = (
                    Run.objects.select_for_update(skip_locked=True, of=("self",))
                    .select_related("task__project", "project", "agent")
                    .filter(pk=run_id, status__in=ACTIVE_RUN, lease_until__lt=now)
                    .first()
                )
                if run is not None:
                    _end_lost(run, now=now)
                    ended.append(run)
        except Exception:  # one that cannot be ended must not keep the others
            logger.exception("run %s could not be ended", run_id)
    return ended


def _end_lost(run: Run, *, now: datetime) -> None:
    if run.status == RunStatus.MERGING and _is_merged(run):
        try:
            with transaction.atomic():
                outcomes.deliver(run, {"commit": run.merge_commit, "recovered": True}, now=now)
                return
        except DomainError:  # what it submitted does not fit any more; the task is asked again, on top of it
            logger.exception("run %s is merged, but cannot be completed", run.pk)
            run.refresh_from_db()
            run.agent.refresh_from_db()
    _lose(run, "lease_expired", "The machine that worked on it stopped answering.", now=now)


def _lose(run: Run, reason: str, detail: str, *, now: datetime) -> None:
    """End a run as lost. That costs its task no attempt, unless it keeps happening: then the task may be why."""
    run.task.refresh_from_db()
    counts = is_often_lost(run)
    delay = None if counts else timedelta(0)
    context = {"failure": {"reason": reason, "detail": detail}} if counts else {}
    # Which process it was: another one's death is another failure.
    what = run.lease_owner
    ending = Ending(RunStatus.LOST, reason, detail, context, counts=counts, delay=delay, resumes=True, what=what)
    runs.fail(run, ending, now=now)


def is_often_lost(run: Run) -> bool:
    """Whether so many runs of its task were lost that the task may be why."""
    lost = run.task.runs.filter(status=RunStatus.LOST)
    asked = run.task.approvals.filter(kind=ApprovalKind.BLOCKED_TASK, decided_at__isnull=False)
    if answered_at := asked.order_by("-decided_at").values_list("decided_at", flat=True).first():
        lost = lost.filter(finished_at__gt=answered_at)
    return lost.count() >= MAX_LOST


def _is_merged(run: Run) -> bool:
    try:
        return repository(run.project_id).is_merged(run.merge_commit)
    except UnknownCommit:
        return False


def requeue(*, now: datetime) -> list[Dispatched]:
    """Return the queued runs whose message was probably lost, to be sent again; those of dead workers are ended."""
    stuck = Run.objects.filter(status=RunStatus.QUEUED, lease_owner="", created_at__lt=now - QUEUED_PATIENCE)
    again = []
    for run in stuck.select_related("worker", "task__project", "agent"):
        if run.worker is not None and run.worker.status != WorkerStatus.OFFLINE:
            again.append(Dispatched(run.pk, run.worker.queue))
            continue
        with suppress(StaleState):  # its worker was only slow, and came first
            detail = "Its worker went away before it began."
            counts = is_often_lost(run)
            delay = None if counts else timedelta(0)
            what = f"{run.worker_id}"
            ending = Ending(RunStatus.LOST, "worker_gone", detail, counts=counts, delay=delay, what=what)
            runs.fail(run, ending, now=now)
    return again


def end_silent_runs(*, now: datetime) -> list[UUID]:
    """End the runs whose supervisor renews the lease and says nothing: it hangs. Return their ids.

    It would have ended a silent agent itself, after EKLAVYA_STALL_SECONDS; this waits for twice as long.
    """
    silent_since = now - 2 * timedelta(seconds=settings.EKLAVYA_STALL_SECONDS) - GRACE
    newest = RunEvent.objects.filter(run=OuterRef("pk"), seq=OuterRef("last_seq")).values("created_at")
    working = Run.objects.filter(status=RunStatus.RUNNING, started_at__lt=silent_since).annotate(
        heard_at=Coalesce(Subquery(newest), F("started_at"))
    )
    ended = []
    for run_id in list(working.filter(heard_at__lt=silent_since).values_list("pk", flat=True)):
        with suppress(StaleState), audit.journal(by=SWEEP, now=now):
            found = Run.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=run_id, status="running")
            run = found.select_related("task__project", "project", "agent").first()
            if run is not None:
                detail = "Its supervisor said nothing any more."
                runs.fail(run, Ending(RunStatus.LOST, recoveries.SILENT, detail, resumes=True), now=now)
                ended.append(run_id)
    return ended


def hand_over_queued(worker_name: str, *, now: datetime) -> int:
    """Take back the runs that wait in the queue of a worker which takes nothing more; others get their tasks at once.

    Return how many. A message that is found there later finds its run ended.
    """
    waiting = Run.objects.filter(worker__name=worker_name, status=RunStatus.QUEUED, lease_owner="")
    count = 0
    for run in waiting.select_related("task__project", "project", "agent"):
        detail = "Its worker takes nothing more; another one gets it."
        with suppress(StaleState):  # it was begun in this moment, and ends with the others
            ending = Ending(RunStatus.CANCELLED, "worker_stopping", detail, counts=False, delay=timedelta(0))
            runs.fail(run, ending, now=now)
            count += 1
    return count


def stop_unwanted(*, now: datetime) -> int:
    """Ask the runs to stop that still work in projects where nothing should, and return in how many projects.

    They were asked when the project was paused or cancelled; this finds the runs that did not hear of it.
    """
    unasked = Run.objects.filter(status__in=ACTIVE_RUN, stop_requested="").exclude(project__status__in=ACTIVE_PROJECT)
    projects = list(Project.objects.filter(pk__in=unasked.values("project")))
    for project in projects:
        reason = "paused" if project.status == ProjectStatus.PAUSED else "cancelled"
        runs.ask_to_stop(project, reason=reason, by=SWEEP, now=now)
    return len(projects)


def stop_at_cancelled(*, now: datetime) -> int:
    """Ask the runs to stop whose task was cancelled, and return at how many tasks. They were asked when it was; this
    finds those that did not hear of it."""
    unasked = Run.objects.filter(status__in=ACTIVE_RUN, stop_requested="", task__status=TaskStatus.CANCELLED)
    cancelled = list(Task.objects.filter(pk__in=unasked.values("task")).select_related("project"))
    for task in cancelled:
        runs.ask_to_stop(task.project, reason="cancelled", task=task, by=SWEEP, now=now)
    return len(cancelled)


def cancel_leftovers(*, now: datetime) -> int:
    """Cancel the tasks that were made in the moment in which their project was given up, and return how many."""
    left = Task.objects.filter(status__in=OPEN_TASK, project__status__in=GIVEN_UP_PROJECT)
    projects = list(Project.objects.filter(pk__in=left.values("project")))
    reasons = {ProjectStatus.CANCELLED: "project_cancelled", ProjectStatus.ARCHIVED: "project_archived"}
    return sum(
        tasks.cancel_open_tasks(one, reason=reasons[ProjectStatus(one.status)], by=SWEEP, now=now) for one in projects
    )


def undelivered(*, now: datetime) -> list[UUID]:
    """Return the projects that are built for a while and yet are neither delivered nor paused."""
    recent = Task.objects.filter(project=OuterRef("pk"), completed_at__gt=now - DELIVERY_PATIENCE)
    return list(queries.built_projects().exclude(Exists(recent)).values_list("pk", flat=True))


def escalate_unanswered(*, now: datetime) -> int:
    """Ask a person where the mentor could not help: a task that waits for advice which will not come."""
    waiting = Task.objects.filter(status=TaskStatus.BLOCKED, reason="awaiting_mentor").select_related("project")
    count = 0
    for task in waiting:
        advising = Task.objects.filter(
            project=task.project, kind=TaskKind.MENTOR, context__asking_task=str(task.pk)
        ).exclude(status__in=[TaskStatus.FAILED, TaskStatus.CANCELLED])
        if advising.exclude(status=TaskStatus.COMPLETED).exists():
            continue
        question = task.detail
        with audit.journal(by=SWEEP, now=now):
            tasks.unblock_task(task, {}, by=SWEEP, now=now)
            setback = Setback("blocked", f"{question}\n\nThe mentor could not help.", counts=False)
            tasks.block_task(task, setback, ask_person=True, by=SWEEP, now=now)
        count += 1
    return count
