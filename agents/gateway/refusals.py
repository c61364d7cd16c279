"""Recording the requests of runs that were refused, without letting a run write rows for ever.

What a verb refuses is recorded where it is called (`mcp_server`); here is what was no call at all.

Recorded as well is what passed although it is not known here: the operator has allowed it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import Error

from agents.actions.usage import GATEWAY
from agents.actions.verbs import actor_of
from agents.gateway.api_errors import ApiError
from agents.gateway.callers import Caller
from agents.gateway.database import Database
from agents.models import Run
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
    """Nothing more of this kind is recorded of this run."""
    action: str = "model.refused"

    def write(self, *, now: datetime) -> None:
        """Write it, on the chain of the run's project."""
        details = self.details | ({"last": True} if self.is_last else {})
        with audit.journal(by=GATEWAY, now=now) as journal:
            journal.add(self.action, project_id=self.caller.project_id, agent_id=self.caller.agent_id, details=details)


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
        # The words are often the agent's own; how many different ones it may make is bounded.
        sentence = error.message[:_SENTENCE_CHARS]
        if number := self._number(caller.run_id, sentence):
            details = {"run": str(caller.run_id), "kind": error.kind, "status": error.status, "why": sentence}
            await self._write(_Row(caller, details, is_last=number == MOST_OF_A_RUN), now)

    async def note_passed(self, caller: Caller, fields: Sequence[str], *, now: datetime) -> None:
        """Record fields that were passed on without being known here, each once a run."""
        for name in fields[:MOST_OF_A_RUN]:
            if number := self._number(caller.run_id, f"passed: {name[:_SENTENCE_CHARS]}"):
                details = {"run": str(caller.run_id), "field": name[:_SENTENCE_CHARS]}
                await self._write(_Row(caller, details, number == MOST_OF_A_RUN, "model.unknown_field"), now)

    async def note_message(self, run: Run, status: int, sentence: str, *, now: datetime) -> None:
        """Record that a message to the MCP server was not taken in: each reason once a run."""
        sentence = sentence[:_SENTENCE_CHARS]
        if number := self._number(run.pk, f"mcp: {sentence}"):
            details = {"status": status, "why": sentence} | ({"last": True} if number == MOST_OF_A_RUN else {})
            try:
                await self._database.call(_write_message, run, details, now=now)
            except Error:  # as below
                logger.warning("a refusal could not be recorded", exc_info=True)

    def _number(self, run_id: UUID, sentence: str) -> int:
        """Return the how manieth row of its run a sentence is; 0 when it was there before, or there are enough."""
        known = self._of_runs.setdefault(run_id, set())
        _forget(self._of_runs)
        if sentence in known or len(known) >= MOST_OF_A_RUN:
            return 0
        known.add(sentence)
        return len(known)

    async def _write(self, row: "_Row", now: datetime) -> None:
        try:
            await self._database.call(row.write, now=now)
        except Error:  # also of a connection that has broken, which is no DatabaseError
            logger.warning("a refusal could not be recorded", exc_info=True)


def _write_message(run: Run, details: dict[str, Any], *, now: datetime) -> None:
    with audit.journal(by=actor_of(run), now=now) as journal:
        journal.add("mcp.refused", project_id=run.project_id, obj=run, details=details)
