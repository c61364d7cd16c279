"""Running the function nodes of executions: a loop over one connection to PostgreSQL.

    claim → call the functions → finish the batch in one transaction, which hands over what became ready → call …

A broker has no part in it. Who is idle waits for a NOTIFY; a lost one is made up for by looking once a second. A runner
that dies loses its connection, and with it the lock that says it lives: others take back its nodes at once.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from django.db import close_old_connections
from django.db import connection as django_connection
from psycopg.types.numeric import Int4Dumper

from projects.jsontext import storable_text
from projects.workflows import functions, statements
from projects.workflows.definition import Definition, InvalidWorkflow
from projects.workflows.finishing import held_executions, write
from projects.workflows.plan import Plan, compile_plan
from projects.workflows.slices import Slice
from projects.workflows.work import MAX_ERROR_CHARS, Claimed, Outcome, work

logger = logging.getLogger(__name__)

MAX_BATCH = 64
# What was done is written so often at least: that much work is repeated, at most, when the process is killed.
SLICE_S = 0.005
# Who always has successors to go on with looks at the queue so often nevertheless.
FAIR_S = 0.02
# And who has a whole batch of them, so often.
FULL_S = 0.1
# So many lanes each give the same to every other claim, while more is ready than is claimed at once.
MAX_LANES = 8
# Where nothing is due in any of them, the next ones are looked at, so often at most for one claim.
MAX_LOOKS = 4
_NO_LANE = UUID(int=0)
LOOK_S = 1.0
POLITE_S = 0.003
WATCH_S = 0.02
MAX_PLANS = 200
# How soon a node whose function this worker does not know is offered to all of them again.
POSTPONED_S = 2.0
_DJANGOS_OWN = {"context", "cursor_factory", "prepare_threshold", "pool", "server_side_binding", "autocommit"}


def connect() -> "psycopg.Connection[Any]":
    """Open a connection as Django would, for statements of our own."""
    given = django_connection.get_connection_params()
    kept = {name: value for name, value in given.items() if name not in _DJANGOS_OWN}
    made = psycopg.connect(**kept, autocommit=True, prepare_threshold=0)
    # Else the type of a parameter, and with it the prepared statement, would follow from the size of each number.
    made.adapters.register_dumper(int, Int4Dumper)
    return made


class Runner:
    """Runs nodes from `run` until `stop`, which another thread calls.

    `begin_steps` is called when nodes of a role became ready, of which it has tasks made; that is a hint and may fail.
    """

    def __init__(self, name: str, begin_steps: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.runner = 0
        self._connection: psycopg.Connection[Any] | None = None
        self._plans: OrderedDict[UUID, Plan] = OrderedDict()
        self._slice = Slice()
        self._stopping, self._at_work = threading.Event(), threading.Event()
        self._writing = threading.RLock()
        self._size = 8
        self._was_first, self._was_told = True, False
        self._claimed_at = self._looked_at = 0.0
        # Whether the last claim may have left something, and the lane that the last one by lanes came to.
        self._is_deep, self._lane = False, _NO_LANE
        self._begin_steps = begin_steps
        self._to_begin: set[UUID] = set()

    def stop(self) -> None:
        """Ask it to end after the node that it is at. Heard at once where a NOTIFY comes through."""
        self._stopping.set()
        try:
            with connect() as connection:
                connection.execute(f"NOTIFY {statements.READY_CHANNEL}")
        except psycopg.Error:
            logger.info("the runner hears of its end within a second")

    def is_overdue(self) -> bool:
        """Whether a function has held it for longer than its node may take, and perhaps for ever."""
        return self._slice.is_overdue()

    def run(self) -> None:
        """Work until asked to stop. A connection that breaks is made anew: then this is another runner."""
        ended, pause = threading.Event(), 0.1
        watcher = threading.Thread(target=self._watch, args=[ended], name="workflows-watcher", daemon=True)
        watcher.start()
        try:
            while not self._stopping.is_set():
                try:
                    self._run_once()
                    pause = 0.1
                except psycopg.Error:
                    logger.warning("runner lost its connection, and tries again", exc_info=True)
                    self._stopping.wait(pause)
                    pause = min(2 * pause, 2.0)
        finally:
            ended.set()
            self._at_work.set()
            watcher.join()

    def _run_once(self) -> None:
        with connect() as self._connection:
            self._sign_on()
            self._serve()
            self._execute(statements.SIGN_OFF)

    def _sign_on(self) -> None:
        assert self._connection is not None
        for statement in statements.SESSION.split(";"):
            self._connection.execute(statement)
        ((self.runner,),) = self._execute(statements.SIGN_ON, {"name": self.name, "lock_class": statements.LOCK_CLASS})
        self._connection.execute(f"LISTEN {statements.READY_CHANNEL}")
        self._look_after()

    def _serve(self) -> None:
        batch: list[Claimed] = []
        while not self._stopping.is_set():
            now = time.monotonic()
            if not batch or now - self._claimed_at > (FAIR_S if len(batch) < self._size else FULL_S):
                found = self._claim_fairly(self._size - len(batch))
                # Nothing after the clock alone woke it says nothing about others.
                self._was_first = bool(found) or (self._was_first and not self._was_told)
                self._was_told, self._claimed_at = False, now
                # Who has a whole batch of successors lets one that waits go before them.
                batch = batch + found if len(batch) < self._size else found + batch
            if batch:
                self._at_work.set()
                batch = self._do(batch)
                if self._to_begin:
                    self._begin_what_is_ready()
            else:
                self._wait()
            if time.monotonic() - self._looked_at > LOOK_S:
                self._look_after()
        self._release(batch)

    def _begin_what_is_ready(self) -> None:
        self._to_begin.clear()
        try:
            self._begin_steps()
        except Exception:  # a hint: the sweep begins them
            logger.exception("the tasks of ready nodes could not be made")

    def _stop_execution(self, execution: UUID, detail: str) -> None:
        given = {"execution": execution, "status": "failed", "detail": storable_text(detail, max_chars=MAX_ERROR_CHARS)}
        with self._transaction():
            self._execute(statements.HOLD, {"executions": [execution]})
            self._execute(statements.STOP, given)

    def _wait(self) -> None:
        """Sleep until somebody says that there is work, or it is time to look.

        All that are idle hear of it. Whoever found nothing the last time lets the others go first for a moment, so that
        a single node is not waited for by all of the machine.
        """
        assert self._connection is not None
        self._at_work.clear()
        for _ in self._connection.notifies(timeout=LOOK_S, stop_after=1):
            self._was_told = True
            if not self._was_first:
                time.sleep(POLITE_S)

    def _claim_fairly(self, limit: int) -> list[Claimed]:
        """Claim up to `limit`, or one. Half of what is claimed is by rank, and where more is ready than that, the other
        half by lanes: one project with thousands of ready nodes lets those of others come after a few of its own."""
        limit = max(limit, 1)
        found = self._claim_by_lane(limit) if self._is_deep else []
        if found:
            self._is_deep = False
            return found
        found = self._claim(limit)
        self._is_deep = len(found) >= limit
        return found

    def _claim(self, limit: int) -> list[Claimed]:
        return self._usable(self._execute(statements.CLAIM, {"limit": limit}))

    def _claim_by_lane(self, limit: int) -> list[Claimed]:
        for _ in range(MAX_LOOKS):
            given = {"limit": limit, "lanes": MAX_LANES, "after": self._lane}
            rows = self._execute(statements.CLAIM_BY_LANE, given)
            claimed = [row for row in rows if row[1] is not None]
            seen, gave = {row[0] for row in rows}, {row[0] for row in claimed}
            was_all = self._lane == _NO_LANE and len(seen) < MAX_LANES
            # A claim that is full came no further than to the last that gave something.
            last = max(gave if len(claimed) == limit else seen, default=_NO_LANE)
            self._lane = _NO_LANE if len(seen) < MAX_LANES and last == max(seen, default=last) else last
            if claimed or was_all:
                return self._usable([row[1:] for row in claimed])
        return []

    def _usable(self, rows: Sequence[Any]) -> list[Claimed]:
        claimed = []
        for execution, position, attempts, workflow, tries in rows:
            try:
                claimed.append(Claimed(execution, position, attempts, workflow, self._plan(workflow), tries))
            except (
                InvalidWorkflow
            ) as error:  # stored by an older version that took it; else it would come back for ever
                self._stop_execution(execution, f"It can no longer be used. {error}")
        return claimed

    def _do(self, batch: list[Claimed]) -> list[Claimed]:
        """Call a batch's functions for as long as a slice lasts, write what came of it, and return what follows."""
        began, count = time.monotonic(), 0
        self._slice = Slice(self._known(batch))
        while node := self._slice.begin_next():
            self._slice.note(work(node, read_input=self._read_input, read_results=self._read_results))
            count += 1
            if time.monotonic() - began > SLICE_S:
                break
        if django_connection.connection is not None:
            close_old_connections()  # functions may use it; one that has broken would fail all after them
        is_over = time.monotonic() - began > SLICE_S
        self._size = count if is_over else min(2 * self._size, MAX_BATCH)
        outcomes, rest = self._slice.take()
        following = self._finish(outcomes)
        self._release(rest)
        return following

    def _known(self, batch: list[Claimed]) -> list[Claimed]:
        """Return the nodes whose functions this process knows, and leave the others to a worker that does."""
        known, unknown, errors = [], [], []
        for node in batch:
            name = node.plan.nodes[node.position].function
            # Asked once: one that is registered meanwhile would be both left to others and worked on.
            if functions.find(name):
                known.append(node)
            else:
                unknown.append(node)
                errors.append(f"{functions.UNKNOWN} “{name}”.")
        if unknown:
            self._execute(statements.POSTPONE, _places_of(unknown) | {"errors": errors, "wait_s": POSTPONED_S})
        return known

    def _watch(self, ended: threading.Event) -> None:
        """In a thread of its own: when one node takes long, write what was done before it, and let others have the
        rest."""
        while not ended.wait(WATCH_S):
            self._at_work.wait()
            try:
                if self._slice.is_stuck(SLICE_S):
                    outcomes, rest = self._slice.take()
                    self._release(self._finish(outcomes) + rest)
            except psycopg.Error:
                logger.warning("could not write what was done before a slow node", exc_info=True)
                # What was not written is lost to this runner: it goes, with its lock, and others have it again at once.
                if self._connection is not None:
                    self._connection.close()

    def _finish(self, outcomes: Sequence[Outcome]) -> list[Claimed]:
        """Write outcomes, and return the nodes that this runner goes on with."""
        following: list[Claimed] = []
        if plain := [outcome for outcome in outcomes if outcome.is_plain]:
            following += self._write(plain)
        for outcome in outcomes:
            if not outcome.is_plain:
                with self._transaction():
                    following += self._write([outcome])
        return following

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Several statements that are one; the watcher's own are before or after them."""
        assert self._connection is not None
        with self._writing, self._connection.transaction():
            yield

    def _write(self, outcomes: Sequence[Outcome]) -> list[Claimed]:
        written = write(self._execute, outcomes, keep=self._size, transaction=self._transaction)
        self._to_begin |= written.to_begin
        return written.following

    def _release(self, nodes: Sequence[Claimed]) -> None:
        """Give back what was claimed and not begun."""
        if nodes:
            self._execute(statements.RELEASE, _places_of(nodes))

    def _look_after(self) -> None:
        """Take back what dead runners held."""
        self._looked_at = time.monotonic()
        for number, name in self._execute(statements.BURY, {"lock_class": statements.LOCK_CLASS}):
            logger.warning("runner %s (%s) is dead: its nodes are taken back", number, name)
        ((executions, dead),) = self._execute(statements.ABANDONED)
        if executions:
            self._execute(statements.TAKE_BACK, {"executions": sorted(executions), "dead": dead or []})

    def _plan(self, workflow_id: UUID) -> Plan:
        plan = self._plans.get(workflow_id)
        if plan is None:
            ((data,),) = self._execute(
                "SELECT definition FROM projects_workflow WHERE id = %(workflow)s", {"workflow": workflow_id}
            )
            plan = self._plans[workflow_id] = compile_plan(Definition.from_json(data))
            if len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        return plan

    def _read_input(self, node: Claimed) -> Any:
        ((found,),) = self._execute(
            "SELECT input FROM projects_execution WHERE id = %(execution)s", {"execution": node.execution_id}
        )
        return found

    def _read_results(self, node: Claimed) -> dict[str, Any]:
        rows = self._execute(
            "SELECT key, result FROM projects_executionnode "
            "WHERE execution_id = %(execution)s AND position = ANY(%(positions)s::int[]) AND status = 'completed'",
            {"execution": node.execution_id, "positions": list(node.plan.parents[node.position])},
        )
        return dict(rows)

    def _execute(self, statement: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        """Run one statement and return its rows. A statement is prepared when it is used for the first time."""
        assert self._connection is not None
        given = {"runner": self.runner} | (parameters or {})
        with self._writing:
            cursor = self._connection.execute(statement, given)
            return cursor.fetchall() if cursor.description else []


def _places_of(nodes: Sequence[Claimed]) -> dict[str, Any]:
    return {
        "executions": held_executions(nodes),
        "node_executions": [node.execution_id for node in nodes],
        "positions": [node.position for node in nodes],
        "attempts": [node.attempts for node in nodes],
    }
