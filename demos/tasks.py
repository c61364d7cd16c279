"""Celery's hints that something is due. Rows decide; each task may come twice, late, or not at all."""

from uuid import UUID

from celery import shared_task
from django.conf import settings

from agents import sandboxes
from agents.actions import workers
from demos import keeper
from projects.models import Task

# Of the messages to a machine that is slow to take them the last is enough.
ROUND_EXPIRES_S = 12


@shared_task(ignore_result=True)
def open_demo_for(*, task_id: str) -> None:
    """Open the demo of a completed demo task and have its preview run. For the event of the task's completion."""
    demo = keeper.open_for(Task.objects.select_related("project").get(pk=task_id))
    keeper.show(demo.pk, sandboxes.runtime())
    if not settings.EKLAVYA_PREVIEWS:
        _ask_others()


# Within it: the export, the start of a sandbox, START_S until it listens and START_S until it answers.
@shared_task(ignore_result=True)
def show_demo(*, demo_id: str) -> None:
    """Have a demo's preview run, if it is this machine's."""
    keeper.show(UUID(demo_id), sandboxes.runtime())


@shared_task(ignore_result=True)
def keep_demos() -> None:
    """Make up for what was missed: open, expire, restart, clean up. For beat, every 15 seconds or so."""
    keep_previews()
    _ask_others()


@shared_task(ignore_result=True)
def keep_previews() -> None:
    """The same on one machine: what runs there, only a worker of the same machine sees."""
    for demo_id in keeper.keep(sandboxes.runtime()):
        arguments = {"demo_id": str(demo_id)}
        show_demo.apply_async(kwargs=arguments, queue=settings.EKLAVYA_WORKER_QUEUE, expires=ROUND_EXPIRES_S)


def _ask_others() -> None:
    for queue in workers.listening_queues():
        if queue != settings.EKLAVYA_WORKER_QUEUE:
            keep_previews.apply_async(queue=queue, expires=ROUND_EXPIRES_S)


def stop_all_previews() -> None:
    """End every preview of this machine, for the shutdown of the whole; they come back with the next start."""
    keeper.stop_all(sandboxes.runtime())
