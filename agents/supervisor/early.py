"""Supervising a run from its commit on: its CLI boots while the dispatching thread still tells others of it."""

import threading
from contextlib import ExitStack
from types import TracebackType
from uuid import UUID

from django.db import connections

from agents.actions.leases import Held, Reserved
from agents.models import Run
from agents.supervisor.standby import Standbys
from agents.supervisor.supervise import supervise_held


class EarlyStart:
    """A `with` around a dispatch. On its way out it waits for the runs that were begun in it to end."""

    def __init__(self, standbys: Standbys) -> None:
        self._standbys = standbys
        self._reserved: dict[UUID, Reserved] = {}
        self._threads: list[threading.Thread] = []
        self._holding = ExitStack()

    def reserve(self, run: Run) -> Reserved | None:
        """Return with what id and token a run is to be made, where a program waits for it."""
        if reserved := self._standbys.reserve(run):
            self._reserved[reserved.run_id] = reserved
        return reserved

    def begin(self, held: Held) -> None:
        """Begin to supervise a run that was just committed."""
        self._reserved.pop(held.run.pk, None)
        # Its program may still boot, for longer than a lease lasts where the machine is slow.
        self._holding.enter_context(self._standbys.keeper().hold(held.run.pk))
        thread = self._standbys.take(held)
        if thread is None:
            thread = threading.Thread(target=self._supervise, args=(held,), name=f"run-{held.run.pk}")
            thread.start()
        self._threads.append(thread)

    def _supervise(self, held: Held) -> None:
        try:
            of = self._standbys
            supervise_held(held, keeper=of.keeper(), runtime=of.runtime(), clock=of.clock, expect=of.expect)
        finally:
            connections.close_all()

    def __enter__(self) -> "EarlyStart":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reserved in self._reserved.values():  # by a transaction that was rolled back
            self._standbys.release(reserved)
        if self._threads:
            connections.close_all()  # for as long as the runs last
        with self._holding:
            for thread in self._threads:
                thread.join()
