"""Celery's hints that something is due. Rows decide; each task may come twice, late, or not at all."""

from uuid import UUID

from celery import shared_task

from agents import sandboxes
from demos import keeper
from projects.models import Task


@shared_task
def open_demo_for(*, task_id: str) -> None:
    """Open the demo of a completed demo task and have its preview run. For the event of the task's completion."""
    demo = keeper.open_for(Task.objects.select_related("project").get(pk=task_id))
    keeper.show(demo.pk, sandboxes.runtime())


# Within it: the export, the start of a sandbox, START_S until it listens and START_S until it answers.
@shared_task
def show_demo(*, demo_id: str) -> None:
    """Have a demo's preview run."""
    keeper.show(UUID(demo_id), sandboxes.runtime())


@shared_task
def keep_demos() -> None:
    """Make up for what was missed: open, expire, restart, clean up. For beat, every 15 seconds or so."""
    for demo_id in keeper.keep(sandboxes.runtime()):
        show_demo.delay(demo_id=str(demo_id))


def stop_all_previews() -> None:
    """End every preview, for the shutdown of the whole; they come back with the next start."""
    keeper.stop_all(sandboxes.runtime())
