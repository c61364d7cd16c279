"""Who is calling: the run that a token belongs to, and whether it still works."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from agents.egress import EgressClass
from agents.gateway.database import Database
from agents.gateway.egress.policy import Reason, Refused
from agents.models import Run
from agents.roles import policy_of
from agents.states import RunStatus
from agents.tokens import hash_token

DATABASE_AWAY = (DatabaseError, InterfaceError)
# For so long a run may be over without its token being refused. Its open connections are cut as soon.
REMEMBERED_S = 1.0
_MOST_REMEMBERED = 4_096
PATIENCE_S = 10.0
# While these last the agent's processes may be alive; later ones are the platform's own.
_WORKING = (RunStatus.STARTING, RunStatus.RUNNING)


@dataclass(frozen=True)
class Caller:
    """A run, as far as it does not change while it works."""

    run_id: UUID
    egress: EgressClass


class Callers:
    """Finds the run of a token, once for all that ask within a second. Tokens themselves are not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[float, asyncio.Task[Caller | None]]] = {}

    async def of(self, token: str) -> Caller:
        """Return who shows a token of a working run. Raises Refused."""
        key = hash_token(token)
        until, lookup = self._known.get(key, (0.0, None))
        if lookup is None or until < time.monotonic():
            lookup = self._remember(key)
        try:
            async with asyncio.timeout(PATIENCE_S):
                # Others wait for the same answer: one of them going away must not end it.
                caller = await asyncio.shield(lookup)
        except (*DATABASE_AWAY, TimeoutError):
            self._known.pop(key, None)
            raise Refused(503, Reason.UNKNOWN_TOKEN, "The token cannot be checked right now: try again.") from None
        if caller is None:
            sentence = "The run token is unknown, or its run has ended."
            raise Refused(407, Reason.UNKNOWN_TOKEN, sentence)
        return caller

    def _remember(self, key: str) -> asyncio.Task[Caller | None]:
        now = time.monotonic()
        if len(self._known) >= _MOST_REMEMBERED:
            self._known = {key: kept for key, kept in self._known.items() if kept[0] >= now}
        lookup = asyncio.create_task(self._database.call(_caller, key))
        self._known[key] = (now + REMEMBERED_S, lookup)
        return lookup

    async def still_working(self, run_ids: Collection[UUID]) -> set[UUID]:
        """Return those of the runs that have not ended. Raises DATABASE_AWAY when that cannot be known."""
        # Shielded: a call that is cancelled would be waited for to its end.
        return await asyncio.shield(self._database.call(_still_working, list(run_ids)))


def _caller(token_hash: str) -> Caller | None:
    found = Run.objects.select_related("agent__member", "task").filter(token_hash=token_hash, status__in=_WORKING)
    run = found.first()
    return Caller(run.pk, policy_of(run).egress) if run else None


def _still_working(run_ids: list[UUID]) -> set[UUID]:
    return set(Run.objects.filter(pk__in=run_ids, status__in=_WORKING).values_list("pk", flat=True))
