"""What a Celery worker of `supervision.py claims` does with a message: take its runs as supervisors do, and no more."""

import os
from uuid import UUID

from celery import shared_task

from agents.actions.leases import Held
from agents.clock import house_now
from agents.supervisor import claiming
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.several import supervise_all

# Beats for nobody: no lease of the measurement runs out.
KEEPER = LeaseKeeper(f"bench:{os.getpid()}", clock=house_now, on_beat=lambda _: None)


@shared_task(ignore_result=True)
def take(*, run_ids: list[str]) -> None:
    """Hold runs at once, and claim each in a thread of its own."""
    supervise_all([UUID(run_id) for run_id in run_ids], keeper=KEEPER, clock=house_now, supervise=_claim)


def _claim(held: Held) -> None:
    claiming.claim(held.run, clock=house_now)
