"""Whether a token is good, asked anew each time: it is dead at once when its run ends.

Every request to the MCP server waits for this, so it is one prepared statement on a connection that stays open, for all
that ask in one moment.
"""

import hmac
from collections.abc import Collection
from uuid import UUID

from agents.errors import UnknownToken
from agents.gateway.gathering import Gathered
from agents.gateway.lane import Lane
from agents.states import ACTIVE_RUN

_ACTIVE = ", ".join(f"'{status.value}'" for status in sorted(ACTIVE_RUN))
_LOOK = (
    "SELECT shown.hash, r.token_hash, r.id::text FROM unnest($1::text[]) AS shown (hash)"
    f" JOIN agents_run r ON r.token_hash = shown.hash AND r.token_hash <> '' AND r.status IN ({_ACTIVE})"
)

# A connection that was idle may have died without a word; then it is asked on another one, with twice the time: a busy
# machine is slow too.
_ATTEMPT_S = 3.0
_LONGEST_ATTEMPT_S = 15.0
# Less than a program waits for what it calls (a minute).
_PATIENCE_S = 20.0


class Tokens:
    """Finds the runs of tokens, by their hashes."""

    def __init__(self) -> None:
        self._lane = Lane()
        self._asked: Gathered[str, UUID] = Gathered(self._look)
        self._attempt_s = _ATTEMPT_S

    async def run_of(self, token_hash: str) -> UUID:
        """Return the active run that a token belongs to. Raises UnknownToken; OperationalError without a database.

        Whoever asks waits for `_PATIENCE_S` at most, however many ask while the database is silent.
        """
        run_id = await self._asked.of(token_hash, patience_s=_PATIENCE_S)
        if run_id is None:
            raise UnknownToken
        return run_id

    async def stop(self) -> None:
        """Close the connection."""
        await self._asked.stop()
        await self._lane.hang_up()

    async def _look(self, hashes: Collection[str]) -> dict[str, UUID]:
        try:
            [rows] = await self._lane.run([(_LOOK, [f"{{{','.join(hashes)}}}"])], longest_s=self._attempt_s)
        except BaseException:
            self._attempt_s = min(2 * self._attempt_s, _LONGEST_ATTEMPT_S)
            await self._lane.hang_up()
            raise
        self._attempt_s = _ATTEMPT_S
        # The index finds by a hash, of which nobody knows a token for a beginning; compared in constant time besides.
        return {
            shown: UUID(run_id)
            for shown, stored, run_id in rows
            if shown and stored and run_id and hmac.compare_digest(stored, shown)
        }
