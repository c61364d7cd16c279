"""Standbys: agents' programs that have booted in their sandboxes and wait for runs that are about to be made.

The program boots for longer than everything else takes between a ready task and its agent's first request. So when an
agent hands its work in, the programs for the tasks that wait only for it are started, beside the verification. One
that is not taken within a while goes again, and its run begins as any other would.

A standby has the token of its run to be, which no row knows: until the run is dispatched no gateway takes it, and the
program has been told nothing. There is no row of a standby either. When its process is killed, what it leaves is
cleared away like what any ended run leaves (`orphans`).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connections

from agents.actions.leases import Held, Reserved
from agents.errors import UnknownSpecialisation
from agents.models import Agent, Run
from agents.prompts import prompt_version_for
from agents.queries import expected_after
from agents.roles import policy_of, specialisations_of
from agents.runtimes.contract import Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import run_directory
from agents.supervisor import workplace
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.program import Program, hang_up
from agents.supervisor.supervise import Booted, Clock, supervise_held
from agents.tokens import new_token
from projects.ids import new_id
from projects.models import Task

logger = logging.getLogger(__name__)

# How often one that waits sees whether its program still lives.
_LOOK_S = 2.0


@dataclass(frozen=True)
class _Kind:
    """All that a program is started with but its run and token: for an equal one it could be taken."""

    project_id: UUID
    role: str
    model: str
    prompt_version_id: UUID | None
    specialisations: tuple[str, ...]
    policy: Any


def _kind_of(run: Run) -> _Kind:
    narrowed = tuple(run.specialisations)
    return _Kind(run.project_id, run.task.role, run.model, run.prompt_version_id, narrowed, policy_of(run))


class Standbys:
    """The standbys of this process: at most `size`, each kept for `keep_s`. Safe to use from several threads."""

    def __init__(
        self,
        *,
        keeper: Callable[[], LeaseKeeper],
        runtime: Callable[[], Runtime],
        clock: Clock,
        size: int,
        keep_s: float,
    ) -> None:
        self.keeper = keeper
        self.runtime = runtime
        self.clock = clock
        self.keep_s = keep_s
        self._size = size
        self._waiting: dict[UUID, _Standby] = {}
        self._is_closed = False
        self.changed = threading.Condition()

    def expect(self, run: Run) -> None:
        """Have programs boot for the tasks that wait for nothing but this run's. It is a hint, and never raises."""
        try:
            for task, agent in expected_after(run.task, limit=self._size):
                self._begin(_run_to_be(task, agent, like=run))
        except Exception:
            logger.exception("no standby after run %s", run.pk)

    def reserve(self, run: Run) -> Reserved | None:
        """Return the id and token that a run which is being made must have to take a standby, if there is one for it.

        Whoever reserves calls `take`, or `release` when the run did not come to be.
        """
        try:
            kind = _kind_of(run)
        except UnknownSpecialisation:
            return None
        with self.changed:
            for standby in self._waiting.values():
                if not standby.is_reserved and not standby.is_dismissed and standby.kind == kind:
                    standby.is_reserved = True
                    return standby.reserved
        return None

    def take(self, held: Held) -> threading.Thread | None:
        """Give a reserved standby its run. Return the thread that does it, or None if there is no such standby."""
        with self.changed:
            standby = self._waiting.pop(held.run.pk, None)
            if standby is not None:
                standby.held = held
                self.changed.notify_all()
        return standby

    def release(self, reserved: Reserved) -> None:
        """Give up what was reserved and not taken.

        Nobody else may have it: the transaction broke off, and whether the run with its id came to be is not known.
        """
        with self.changed:
            if standby := self._waiting.get(reserved.run_id):
                standby.is_reserved, standby.is_dismissed = False, True
                self.changed.notify_all()

    def ids(self) -> set[UUID]:
        """Return the ids of the runs to be."""
        with self.changed:
            return set(self._waiting)

    def close(self) -> None:
        """End all of them, and take no more."""
        with self.changed:
            self._is_closed = True
            waiting = list(self._waiting.values())
            for standby in waiting:
                standby.is_dismissed = True
            self.changed.notify_all()
        for standby in waiting:
            standby.join()

    def forget(self, standby: "_Standby") -> None:
        """Called by one that goes, with `changed` held."""
        self._waiting.pop(standby.reserved.run_id, None)

    def _begin(self, run: Run) -> None:
        if not workplace.may_wait(run, self.runtime()):
            return
        standby = _Standby(run, self)
        with self.changed:
            if self._is_closed or len(self._waiting) >= self._size:
                return
            self._waiting[run.pk] = standby
        standby.start()


class _Standby(threading.Thread):
    """A thread that boots a program, waits, and then does the run or clears up. Its state is guarded by `changed`."""

    def __init__(self, run: Run, pool: Standbys) -> None:
        super().__init__(name=f"standby-{run.pk}")
        self.kind = _kind_of(run)
        self.reserved = Reserved(run.pk, new_token())
        # From then until it is given a run or released it stays, dead or alive: a run with its id may come to be.
        self.is_reserved = False
        self.is_dismissed = False
        self.held: Held | None = None
        self._run_to_be = run
        self._pool = pool

    def run(self) -> None:
        try:
            runtime = self._pool.runtime()
            if not self._serve(runtime) and self.held is not None:
                self._supervise(self.held, runtime, None)  # its program did not come up, or not stay
        except Exception:
            logger.exception("standby %s failed", self.reserved.run_id)
        finally:
            with self._pool.changed:
                self._pool.forget(self)
            connections.close_all()

    def _serve(self, runtime: Runtime) -> bool:
        """Return whether the program did a run. If not, nothing is left of it."""
        with asyncio.Runner() as runner:
            booted = self._boot(runner, runtime)
            connections.close_all()  # for as long as it waits
            held = self._wait(booted, runtime)
            if held is not None and booted is not None and _is_alive(booted, runtime):
                self._supervise(held, runtime, booted)
                return True
            try:
                kill = partial(runtime.kill, workplace.sandbox_of(self.reserved.run_id))
                if booted is not None:
                    runner.run(hang_up(booted.program, kill, grace_s=0))
                kill()
                # Nothing worked there: there is nothing to confirm.
                runtime.remove_directory(run_directory(self.reserved.run_id))
            except (RuntimeProblem, OSError):  # the sweep tries again
                logger.exception("standby %s could not be cleared away", self.reserved.run_id)
        return False

    def _boot(self, runner: asyncio.Runner, runtime: Runtime) -> Booted | None:
        try:
            place = workplace.prepare(self._run_to_be, self.reserved.token, runtime, waits=True)
            program = Program(workplace.options_for(place), clock=self._pool.clock, servers=place.servers)
            runner.run(program.boot())
            return Booted(place, program, runner)
        except Exception as error:
            logger.warning("a standby did not boot: %r", error)
            return None

    def _wait(self, booted: Booted | None, runtime: Runtime) -> Held | None:
        """Return the run that it was given; None when it has waited long enough, is dismissed, or its program ended."""
        until = time.monotonic() + self._pool.keep_s
        changed = self._pool.changed
        while True:
            is_well = booted is not None and time.monotonic() < until and _is_alive(booted, runtime)
            with changed:
                self.is_dismissed |= not is_well
                if changed.wait_for(lambda: self.held or (self.is_dismissed and not self.is_reserved), _LOOK_S):
                    self._pool.forget(self)
                    return self.held

    def _supervise(self, held: Held, runtime: Runtime, booted: Booted | None) -> None:
        pool = self._pool
        supervise_held(held, keeper=pool.keeper(), runtime=runtime, clock=pool.clock, booted=booted, expect=pool.expect)


def _is_alive(booted: Booted, runtime: Runtime) -> bool:
    try:
        return runtime.is_alive(booted.place.spec.name)
    except RuntimeProblem as problem:  # such as a daemon that restarts
        logger.warning("standby %s is given up: %s", booted.place.spec.name, problem)
        return False


def _run_to_be(task: Task, agent: Agent, *, like: Run) -> Run:
    """Return what the task's run will probably be. It is saved nowhere."""
    assert agent.member is not None, "agents without a squad are not expected to work"
    return Run(
        id=new_id(),
        project=task.project,
        task=task,
        agent=agent,
        worker=like.worker,
        runtime=like.runtime,
        rehearsal=like.rehearsal,
        model=agent.member.model,
        prompt_version_id=prompt_version_for(task.role, pinned=agent.member.prompt_version_id),
        specialisations=specialisations_of(agent, task),
    )
