"""Supervising a run from its commit on: its CLI boots while the dispatching thread still tells others of it."""

import threading
from collections.abc import Callable
from types import TracebackType

from django.db import connections

from agents.actions.runs import Held
from agents.runtimes.contract import Runtime
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.supervise import Clock, supervise_held


class EarlyStart:
    """A `with` around a dispatch. On its way out it waits for the run that was begun in it, if any, to end."""

    def __init__(self, *, keeper: LeaseKeeper, runtime: Callable[[], Runtime], clock: Clock) -> None:
        self._keeper = keeper
        self._runtime = runtime
        self._clock = clock
        self._thread: threading.Thread | None = None

    def begin(self, held: Held) -> None:
        """Begin to supervise a run that was just committed. At most once."""
        assert self._thread is None, "one thread waits for one run"
        self._thread = threading.Thread(target=self._supervise, args=(held,), name=f"run-{held.run.pk}")
        self._thread.start()

    def _supervise(self, held: Held) -> None:
        try:
            supervise_held(held, keeper=self._keeper, runtime=self._runtime(), clock=self._clock)
        finally:
            connections.close_all()

    def __enter__(self) -> "EarlyStart":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            connections.close_all()  # for as long as the run lasts
            self._thread.join()
