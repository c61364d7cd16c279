"""How much each run uses of the proxy, so that none crowds out the others or fills a disk from afar."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from agents.gateway.database import Database
from agents.gateway.egress.callers import PATIENCE_S, Caller
from agents.gateway.egress.policy import Reason, Refused
from agents.gateway.egress.record import Account, load
from agents.gateway.holds import Holds, ServedElsewhere

# Connections that no run answers for, yet or any more: per address that they come from, and of all.
_MOST_WAITING_OF_ONE = 64
_MOST_WAITING = 1_024
_FORGET_AFTER_S = 30.0


@dataclass(frozen=True)
class Limits:
    """What one run may use."""

    connections: int
    """At a time."""
    bytes_moved: int
    """Both ways together, over the run's whole life."""
    requests_a_minute: int = 1_200


class Accounts:
    """The accounts of all runs that are about, in this process."""

    def __init__(
        self, database: Database, holds: Holds, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._holds = holds
        self._limits = limits
        self._clock = clock
        self._open: dict[UUID, Account] = {}

    async def of(self, caller: Caller) -> Account:
        """Return the run's account, with what an earlier process recorded of it.

        Raises DATABASE_AWAY or TimeoutError when that cannot be read, Refused when another proxy serves the run.
        """
        await self._hold(caller)
        account = self._open.get(caller.run_id)
        if account is None:
            async with asyncio.timeout(PATIENCE_S):
                loaded = await asyncio.shield(self._database.call(load, caller.run_id))
            account = self._open.setdefault(caller.run_id, loaded)
        account.seen_at = self._clock()
        return account

    async def _hold(self, caller: Caller) -> None:
        """First: from then on no other proxy adds to the run's record."""
        try:
            await self._holds.take(caller.run_id)
        except ServedElsewhere as error:
            raise Refused(503, Reason.UNREACHABLE, str(error)) from None

    @property
    def busy(self) -> list[Account]:
        """Those with open connections."""
        return [account for account in self._open.values() if account.tasks]

    @contextmanager
    def place(self, account: Account) -> Iterator[None]:
        """Count the current task in as a connection of the run. Raises Refused where there are too many."""
        self._check(account)
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        account.tasks.add(task)
        try:
            yield
        finally:
            account.tasks.discard(task)
            account.seen_at = self._clock()

    def _check(self, account: Account) -> None:
        minute = int(self._clock() // 60)
        if account.minute != minute:
            account.minute, account.requests = minute, 0
        account.requests += 1
        most = self._limits
        if account.requests > most.requests_a_minute:
            raise Refused(429, Reason.RATE_LIMIT, f"At most {most.requests_a_minute} requests a minute.")
        if len(account.tasks) >= most.connections:
            raise Refused(429, Reason.CONNECTION_LIMIT, f"At most {most.connections} connections at a time.")
        self.check_bytes(account)

    def check_bytes(self, account: Account) -> None:
        """Raise Refused when the run has moved all that it may."""
        most = self._limits.bytes_moved
        if account.bytes_moved >= most:
            raise Refused(403, Reason.BYTE_LIMIT, f"This run has moved its {most:,} bytes to and from the outside.")

    def forget_idle(self) -> None:
        """Let go of accounts without connections: what they used is in the record by now."""
        old = self._clock() - _FORGET_AFTER_S
        self._open = {key: one for key, one in self._open.items() if one.tasks or one.seen_at > old}


class Doors:
    """Connections of which nothing is known, or nothing good: only the address that they come from."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    def enter(self, peer: str) -> Callable[[], None] | None:
        """Count a connection in, and return what counts it out again; None where there is no room.

        That may be called more than once: when a run answers for the connection, and at its end.
        """
        if self._waiting[peer] >= _MOST_WAITING_OF_ONE or self._waiting.total() >= _MOST_WAITING:
            return None
        self._waiting[peer] += 1
        is_counted = True

        def leave() -> None:
            nonlocal is_counted
            if is_counted:
                is_counted = False
                self._waiting[peer] -= 1
                if not self._waiting[peer]:
                    del self._waiting[peer]

        return leave
