"""Supervising the runs of one message: held all at once, and then each in a thread of its own."""

import logging
from collections.abc import Callable, Sequence
from threading import Thread
from uuid import UUID

from django.db import connections

from agents.actions.leases import Held
from agents.supervisor import claiming
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.supervise import Clock

logger = logging.getLogger(__name__)


def supervise_all(
    run_ids: Sequence[UUID], *, keeper: LeaseKeeper, clock: Clock, supervise: Callable[[Held], None]
) -> None:
    """Hold those of the runs that nobody has, and return when `supervise` has returned for each.

    The first is done in the calling thread: of most messages it is the only one.
    """
    held = claiming.hold_all(run_ids, owner=keeper.owner, clock=clock)
    if len(held) < len(run_ids):
        logger.info("of runs %s only %s are for us", run_ids, [one.run.pk for one in held])
    if not held:
        return
    first, *others = held
    begun: list[Thread] = []
    try:
        for one in others:
            begun += _begin(supervise, one)
        supervise(first)
    finally:
        connections.close_all()  # for as long as the others last
        for thread in begun:
            thread.join()


def _begin(supervise: Callable[[Held], None], held: Held) -> list[Thread]:
    thread = Thread(target=_in_thread, args=(supervise, held), name=f"run-{held.run.pk}")
    try:
        thread.start()
    except RuntimeError as error:  # its lease runs out soon, and it is given out anew
        logger.error("run %s was not begun, this machine has no room for another thread: %s", held.run.pk, error)
        return []
    return [thread]


def _in_thread(supervise: Callable[[Held], None], held: Held) -> None:
    try:
        supervise(held)
    finally:
        connections.close_all()
