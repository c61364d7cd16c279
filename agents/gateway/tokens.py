"""Whether a token is good, asked anew each time: it is dead at once when its run ends.

Every request to the MCP server waits for this, so it is one prepared statement on a connection that stays open.
"""

import asyncio
import hmac
from uuid import UUID

import psycopg
from django.db import OperationalError

from agents.errors import UnknownToken
from agents.gateway.lane import Lane, Row
from agents.states import ACTIVE_RUN

_ACTIVE = ", ".join(f"'{status.value}'" for status in sorted(ACTIVE_RUN))
_LOOK = f"SELECT id::text, token_hash FROM agents_run WHERE token_hash = $1::text AND status IN ({_ACTIVE})"


# Together less than a program waits for its tools. One attempt more, as a connection that was idle may have died.
_ATTEMPT_S = 3.0
_ATTEMPTS = 2
_PATIENCE_S = 8.0
_AWAY = "the database does not say whose token this is"


class Tokens:
    """Finds the runs of tokens, by their hashes."""

    def __init__(self) -> None:
        self._lane = Lane()
        self._turn = asyncio.Lock()

    async def run_of(self, token_hash: str) -> UUID:
        """Return the active run that a token belongs to. Raises UnknownToken; OperationalError without a database.

        Whoever asks waits for `_PATIENCE_S` at most, however many ask while the database is silent.
        """
        give_up = asyncio.get_running_loop().time() + _PATIENCE_S
        try:
            async with asyncio.timeout_at(give_up):
                await self._turn.acquire()
        except TimeoutError:
            raise OperationalError(_AWAY) from None
        # Shielded: in the middle of an exchange the connection is nobody's to leave.
        found = await asyncio.shield(self._look(token_hash, give_up))
        # The index finds by a hash, of which nobody knows a token for a beginning; compared in constant time besides.
        if not found or not hmac.compare_digest(found[0][1] or "", token_hash):
            raise UnknownToken
        return UUID(found[0][0])

    async def stop(self) -> None:
        """Close the connection."""
        async with self._turn:
            await self._lane.hang_up()

    async def _look(self, token_hash: str, give_up: float) -> list[Row]:
        """Ask until the time is up, and let the next one have its turn."""
        loop, failure = asyncio.get_running_loop(), None
        try:
            for _ in range(_ATTEMPTS):
                try:
                    return await self._ask(token_hash, longest_s=min(_ATTEMPT_S, max(give_up - loop.time(), 0)))
                except (psycopg.Error, OSError) as error:
                    failure = error
            raise OperationalError(_AWAY) from failure
        finally:
            self._turn.release()

    async def _ask(self, token_hash: str, *, longest_s: float) -> list[Row]:
        try:
            [rows] = await self._lane.run([(_LOOK, [token_hash])], longest_s=longest_s)
        except BaseException:
            await self._lane.hang_up()
            raise
        return rows
