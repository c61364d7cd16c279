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


class Tokens:
    """Finds the runs of tokens, by their hashes."""

    def __init__(self) -> None:
        self._lane = Lane()
        self._turn = asyncio.Lock()

    async def run_of(self, token_hash: str) -> UUID:
        """Return the active run that a token belongs to. Raises UnknownToken; OperationalError without a database."""
        # Shielded: in the middle of an exchange the connection is nobody's to leave.
        found = await asyncio.shield(self._look(token_hash))
        # The index finds by a hash, of which nobody knows a token for a beginning; compared in constant time besides.
        if not found or not hmac.compare_digest(found[0][1] or "", token_hash):
            raise UnknownToken
        return UUID(found[0][0])

    async def stop(self) -> None:
        """Close the connection."""
        async with self._turn:
            await self._lane.hang_up()

    async def _look(self, token_hash: str) -> list[Row]:
        async with self._turn:
            try:
                return await self._ask(token_hash)
            except (psycopg.Error, OSError):  # it was idle, and its server may have been restarted meanwhile
                pass
            try:
                return await self._ask(token_hash)
            except (psycopg.Error, OSError) as error:
                raise OperationalError("the database does not say whose token this is") from error

    async def _ask(self, token_hash: str) -> list[Row]:
        try:
            [rows] = await self._lane.run([(_LOOK, [token_hash])])
        except BaseException:
            await self._lane.hang_up()
            raise
        return rows
