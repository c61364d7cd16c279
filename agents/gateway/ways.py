"""Whose key a project's model requests are sent with: its own, the account's, or the house's."""

import logging
import time
from uuid import UUID

from agents.gateway.api_errors import ended
from agents.gateway.database import Database
from agents.gateway.upstream import Upstream
from projects.errors import SecretUnreadable
from projects.secrets import ModelAccess, model_access

logger = logging.getLogger(__name__)

# A key that is set or removed counts this much later.
REMEMBERED_S = 10.0


class Ways:
    """The ways to the model's API, one for each address and key, so that no two keys share a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[UUID, tuple[float, Upstream]] = {}
        self._upstreams: dict[tuple[str, str], Upstream] = {}

    async def of(self, project_id: UUID) -> Upstream:
        """Return a project's way. Raises ApiError when its key cannot be read; another would have somebody else pay."""
        until, upstream = self._known.get(project_id, (0.0, None))
        if upstream is None or until < time.monotonic():
            try:
                upstream = self._to(await self._database.call(model_access, project_id))
            except SecretUnreadable as error:
                logger.error("a model key cannot be read: %s", error)
                raise ended(f"The platform cannot read its model key: {error}") from error
            self._known[project_id] = (time.monotonic() + REMEMBERED_S, upstream)
        return upstream

    def _to(self, access: ModelAccess) -> Upstream:
        # Those of keys that were replaced stay: streams may still come through them.
        key = access.key.get_secret_value()
        return self._upstreams.setdefault((access.url, key), Upstream(access.url, key))

    async def close(self) -> None:
        """Close all connections."""
        for upstream in self._upstreams.values():
            await upstream.close()
