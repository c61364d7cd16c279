"""What is done about runs that nobody holds any more. Plain code, once per run, never a recovery of a recovery."""

from datetime import datetime, timedelta

from agents.actions import outcomes, runs
from agents.actions.dispatch import Dispatched
from agents.actions.runs import Ending
from agents.models import Run
from agents.sandboxes import repository
from agents.states import LEASED_RUN, RunStatus, WorkerStatus
from agents.workspace.errors import UnknownCommit
from projects import audit
from projects.actions import tasks
from projects.actions.tasks import Setback
from projects.actors import Actor
from projects.models import Task
from projects.states import TaskKind, TaskStatus

SWEEP = Actor.system("sweep")
# A message that was not picked up for so long was lost, or its worker is gone.
QUEUED_PATIENCE = timedelta(seconds=10)


def end_lost_runs(*, now: datetime) -> list[Run]:
    """End the runs whose lease ran out, each in its own transaction, and return them. Their tasks are tried again.

    A run that had moved main before its supervisor died is completed instead: its work is in.
    """
    ended = []
    expired = Run.objects.filter(status__in=LEASED_RUN, lease_until__lt=now).values_list("pk", flat=True)
    for run_id in list(expired):
        with audit.journal(by=SWEEP, now=now):
            run = (
                Run.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("task__project", "project", "agent")
                .filter(pk=run_id, status__in=LEASED_RUN, lease_until__lt=now)
                .first()
            )
            if run is not None:
                _end_lost(run, now=now)
                ended.append(run)
    return ended


def _end_lost(run: Run, *, now: datetime) -> None:
    if run.status == RunStatus.MERGING and _is_merged(run):
        outcomes.deliver(run, {"commit": run.merge_commit, "recovered": True}, now=now)
        return
    detail = "The machine that worked on it stopped answering."
    runs.fail(run, Ending(RunStatus.LOST, "lease_expired", detail, counts=False, delay=timedelta(0)), now=now)


def _is_merged(run: Run) -> bool:
    try:
        return repository(run.project_id).is_merged(run.merge_commit)
    except UnknownCommit:
        return False


def requeue(*, now: datetime) -> list[Dispatched]:
    """Return the queued runs whose message was probably lost, to be sent again; those of dead workers are ended."""
    stuck = Run.objects.filter(status=RunStatus.QUEUED, created_at__lt=now - QUEUED_PATIENCE)
    again = []
    for run in stuck.select_related("worker", "task__project", "agent"):
        if run.worker is not None and run.worker.status != WorkerStatus.OFFLINE:
            again.append(Dispatched(run.pk, run.worker.queue))
            continue
        with audit.journal(by=SWEEP, now=now):
            detail = "Its worker went away before it began."
            runs.fail(run, Ending(RunStatus.LOST, "worker_gone", detail, counts=False, delay=timedelta(0)), now=now)
    return again


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
