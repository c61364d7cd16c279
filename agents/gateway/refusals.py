"""Recording the model requests of runs that were refused, without letting a run write rows for ever."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import Error

from agents.actions.usage import GATEWAY
from agents.gateway.api_errors import ApiError
from agents.gateway.callers import Caller
from agents.gateway.database import Database
from projects import audit

MOST_OF_A_RUN = 50
_MOST_REMEMBERED = 10_000
_SENTENCE_CHARS = 300
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Row:
    caller: Caller
    details: dict[str, Any]
    is_last: bool = False
    """Further refusals of this run are not recorded."""

    def write(self, *, now: datetime) -> None:
        """Write it, on the chain of the run's project."""
        details = self.details | ({"last": True} if self.is_last else {})
        with audit.journal(by=GATEWAY, now=now) as journal:
            journal.add(
                "model.refused", project_id=self.caller.project_id, agent_id=self.caller.agent_id, details=details
            )


def _forget(remembered: dict[Any, Any]) -> None:
    if len(remembered) > _MOST_REMEMBERED:
        del remembered[next(iter(remembered))]


class Refusals:
    """Each reason once per run; whoever shows no token of one is noted by `strangers`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._of_runs: dict[UUID, set[str]] = {}

    async def note(self, caller: Caller, error: ApiError, *, now: datetime) -> None:
        """Record a refusal. The answer must not fail for it."""
        known = self._of_runs.setdefault(caller.run_id, set())
        _forget(self._of_runs)
        # The words are often the agent's own; how many different ones it may make is bounded.
        sentence = error.message[:_SENTENCE_CHARS]
        if sentence not in known and len(known) < MOST_OF_A_RUN:
            known.add(sentence)
            details = {"run": str(caller.run_id), "kind": error.kind, "status": error.status, "why": sentence}
            await self._write(_Row(caller, details, is_last=len(known) == MOST_OF_A_RUN), now)

    async def _write(self, row: "_Row", now: datetime) -> None:
        try:
            await self._database.call(row.write, now=now)
        except Error:  # also of a connection that has broken, which is no DatabaseError
            logger.warning("a refusal could not be recorded", exc_info=True)
