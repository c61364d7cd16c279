"""Whose key a project's model requests are sent with: its own, the account's, or the house's."""

import logging
import time
from uuid import UUID

from django.conf import settings

from agents.gateway.api_errors import ended
from agents.gateway.database import Database
from agents.gateway.upstream import Upstream
from agents.models import Run
from projects.errors import SecretUnreadable
from projects.secrets import ModelAccess, model_access

logger = logging.getLogger(__name__)

# A key that is set or removed counts this much later.
REMEMBERED_S = 10.0


class Ways:
    """The ways to the model's API, one for each address and key, so that no two keys share a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[UUID, tuple[float, Upstream]] = {}  # by run
        self._upstreams: dict[tuple[str, str], Upstream] = {}

    async def of(self, run_id: UUID) -> Upstream:
        """Return the way of a run's requests. Raises ApiError as `access_of`."""
        until, upstream = self._known.get(run_id, (0.0, None))
        now = time.monotonic()
        if upstream is None or until < now:
            upstream = self._to(await self._database.call(access_of, run_id))
            self._known = {key: known for key, known in self._known.items() if known[0] >= now}
            self._known[run_id] = (now + REMEMBERED_S, upstream)
        return upstream

    def _to(self, access: ModelAccess) -> Upstream:
        # Those of keys that were replaced stay: streams may still come through them.
        key = access.key.get_secret_value()
        return self._upstreams.setdefault((access.url, key), Upstream(access.url, key))

    async def close(self) -> None:
        """Close all connections."""
        for upstream in self._upstreams.values():
            await upstream.close()


def access_of(run_id: UUID) -> ModelAccess:
    """Return whose key a run's requests are sent with.

    Raises ApiError when that key cannot be read, as another would have somebody else pay; and when it is the first real
    one in a house of the rehearsal model whose agents are not isolated (see `agents.sandboxes.choice`).
    """
    run = Run.objects.only("project_id", "runtime").get(pk=run_id)
    try:
        access = model_access(run.project_id)
    except SecretUnreadable as error:
        logger.error("a model key cannot be read: %s", error)
        raise ended(f"The platform cannot read its model key: {error}") from error
    if access.is_kept and run.runtime == "local" and not settings.EKLAVYA_ALLOW_LOCAL_RUNTIME:
        logger.error("a run without isolation is refused a real model", extra={"run": str(run_id)})
        raise ended("No real model without isolation. Install Docker, or set EKLAVYA_ALLOW_LOCAL_RUNTIME=true.")
    return access
