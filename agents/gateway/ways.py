"""Whose key a project's model requests are sent with: its own, the account's, or the house's."""

import logging
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

# A key that is set or removed counts for the second request after this, and for all after the longer time.
REMEMBERED_S = 5.0
LONGEST_S = 60.0


class Ways:
    """The ways to the model's API, one for each address and key, so that no two keys share a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Remembered[tuple[UUID, str], Upstream] = Remembered(self._look)  # by project and runtime
        self._upstreams: dict[tuple[str, str], Upstream] = {}

    async def of(self, caller: Caller) -> Upstream:
        """Return the way of a run's requests. Raises ApiError as `access_of`."""
        key = (caller.project_id, caller.runtime)
        return await self._known.of(key, fresh_s=REMEMBERED_S, usable_s=LONGEST_S)

    async def _look(self, key: tuple[UUID, str]) -> Upstream:
        return self._to(await self._database.call(access_of, *key))

    def _to(self, access: ModelAccess) -> Upstream:
        # Those of keys that were replaced stay: streams may still come through them.
        key = access.key.get_secret_value()
        return self._upstreams.setdefault((access.url, key), Upstream(access.url, key))

    async def close(self) -> None:
        """Close all connections."""
        for upstream in self._upstreams.values():
            await upstream.close()


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
