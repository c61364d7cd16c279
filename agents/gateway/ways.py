"""Whose key a project's model requests are sent with: its own, the account's, or the house's."""

import logging
import time
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from agents.gateway.api_errors import ended
from agents.gateway.callers import Caller
from agents.gateway.database import Database
from agents.gateway.remembering import Remembered
from agents.gateway.upstream import Upstream
from projects.errors import SecretUnreadable
from projects.secrets import ModelAccess, model_access

logger = logging.getLogger(__name__)

# A key that is set or removed counts for the second request after this, and for all after the longer time, however long
# nobody asked meanwhile: then the one who asks waits for a look-up, a millisecond or two.
REMEMBERED_S = 5.0
LONGEST_S = 10.0
# Longer than a request waits between being given its way and going it, be it for money or for a model that is away.
KEPT_S = 900.0


@dataclass(eq=False)
class _Way:
    upstream: Upstream
    asked_at: float = 0.0


class Ways:
    """The ways to the model's API, one for each address and key, so that no two keys share a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Remembered[tuple[UUID, str], _Way] = Remembered(self._look)  # by project and runtime
        self._upstreams: dict[tuple[str, str], _Way] = {}

    async def of(self, caller: Caller) -> Upstream:
        """Return the way of a run's requests. Raises ApiError as `access_of`."""
        key = (caller.project_id, caller.runtime)
        way = await self._known.of(key, fresh_s=REMEMBERED_S, usable_s=LONGEST_S)
        way.asked_at = time.monotonic()
        return way.upstream

    async def _look(self, key: tuple[UUID, str]) -> _Way:
        way = self._to(await self._database.call(access_of, *key))
        await self._drop_unused(but=way)
        return way

    def _to(self, access: ModelAccess) -> _Way:
        key = access.key.get_secret_value()
        way = self._upstreams.get((access.url, key))
        if way is None:
            way = self._upstreams[access.url, key] = _Way(Upstream(access.url, key))
        way.asked_at = time.monotonic()
        return way

    async def _drop_unused(self, *, but: _Way) -> None:
        """Forget the keys that nobody has asked for in a while: most were replaced. What still streams is let end."""
        before = time.monotonic() - KEPT_S
        unused = [
            name
            for name, way in self._upstreams.items()
            if way is not but and way.asked_at < before and way.upstream.is_idle
        ]
        # All out of the table first: while one closes, others may ask.
        for way in [self._upstreams.pop(name) for name in unused]:
            await way.upstream.close()

    async def close(self) -> None:
        """Close all connections."""
        for way in self._upstreams.values():
            await way.upstream.close()


def access_of(project_id: UUID, runtime: str) -> ModelAccess:
    """Return whose key the requests of a project's runs are sent with.

    Raises ApiError when that key cannot be read, as another would have somebody else pay; and when it is the first real
    one in a house of the rehearsal model whose agents are not isolated (see `agents.sandboxes.choice`).
    """
    try:
        access = model_access(project_id)
    except SecretUnreadable as error:
        logger.error("a model key cannot be read: %s", error)
        raise ended(f"The platform cannot read its model key: {error}") from error
    if access.is_kept and runtime == "local" and not settings.EKLAVYA_ALLOW_LOCAL_RUNTIME:
        logger.error("a run without isolation is refused a real model", extra={"project": str(project_id)})
        raise ended("No real model without isolation. Install Docker, or set EKLAVYA_ALLOW_LOCAL_RUNTIME=true.")
    return access
