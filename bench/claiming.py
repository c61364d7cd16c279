"""What a Celery worker of `supervision.py claims` does with a message: take a run as supervisors do, and no more."""

import os
from uuid import UUID

from celery import shared_task

from agents.clock import house_now
from agents.supervisor import claiming

OWNER = f"bench:{os.getpid()}"


@shared_task(ignore_result=True)
def take(*, run_id: str) -> None:
    """Hold and claim a run."""
    held = claiming.hold(UUID(run_id), owner=OWNER, clock=house_now)
    claiming.claim(held.run, clock=house_now)
