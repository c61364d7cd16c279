"""Celery tasks of projects: one call each, nothing decided here. Messages are hints; periodic ones find the lost."""

from collections.abc import Callable

from celery import shared_task
from django.utils import timezone

from projects.actions import audit_watch, main_job, steps, tasks, webhook_deliveries, workflow_watch, workflows
from projects.sweeping import take_each
from projects.workflows import hosting


# No time limit: the pump ends by itself, and each attempt has its own.
@shared_task(ignore_result=True)
def send_webhooks() -> None:
    """Make deliveries of new events and send what is due. Safe to run twice at once, and at any time."""
    # Slow to load, and every process loads this module.
    from projects.webhooks.pump import pump  # noqa: PLC0415
    from projects.webhooks.sending import sender  # noqa: PLC0415

    pump(sender(), timezone.now)


@shared_task(ignore_result=True)
def forget_deliveries() -> None:
    """Delete the deliveries that nobody looks at any more."""
    now = timezone.now()
    while webhook_deliveries.forget_old(now=now):
        pass


@shared_task(ignore_result=True)
def forget_executions() -> None:
    """Delete the executions that nobody looks at any more. Safe to run twice at once."""
    while workflows.forget_old(now=timezone.now()):
        pass


@shared_task(ignore_result=True)
def keep_workflows() -> None:
    """Keep this process's runner alive, make the tasks of ready nodes, cancel those of nodes that are over, and bring
    the audit log up to date. Safe at any time, and twice at once."""
    take_each(
        hosting.ensure,
        lambda: _until_done(steps.begin_ready),
        lambda: main_job.begin_ready(now=timezone.now()),
        lambda: workflow_watch.pause_stuck(now=timezone.now()),
        lambda: tasks.cancel_left(now=timezone.now()),
        lambda: _until_done(workflows.audit_executions),
        lambda: _until_done(workflow_watch.report_unknown),
    )


def _until_done(step: Callable[..., int]) -> None:
    while step(now=timezone.now()):
        pass


@shared_task(ignore_result=True)
def verify_audit() -> None:
    """Check every chain of the audit log; whoever is told of a break is told once."""
    audit_watch.watch_chains(now=timezone.now())
