"""The live events of a page: one WebSocket each, of all projects or of one.

Nothing is decided here. An event is a hint; the page that gets it asks the server for what it may see.
A program's API key needs the scope projects:read; one for a project hears of that project alone.
Close codes: 4401 not signed in (any more), 4404 no such project.
"""

import time
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone

from accounts.queries import live_keys
from accounts.scopes import Scope
from projects.live import ALL_GROUP, project_group
from projects.models import Project

NOT_SIGNED_IN, NO_SUCH_PROJECT = 4401, 4404
RECHECK_S = 10
"""How long a right that was looked up counts: events come many a second, rights change once a year."""


class Events(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Everything that happens in the house."""

    checked_at = 0.0
    group = ALL_GROUP

    async def connect(self) -> None:
        """Accept first: only then does the browser learn the close code."""
        await self.accept()
        if not await self._may_watch():
            await self.close(NOT_SIGNED_IN)
        elif not await self._find_group():
            await self.close(NO_SUCH_PROJECT)
        else:
            await self.channel_layer.group_add(self.group, self.channel_name)
            # What happened between the page's first byte and this moment reached nobody: the page asks again.
            await self.send_json({"type": "hello"})

    async def disconnect(self, code: int) -> None:
        """Leave the group."""
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Browsers have nothing to say here."""

    async def live_events(self, message: dict[str, Any]) -> None:
        """Pass events on, unless the right to them ended meanwhile."""
        if not await self._may_watch():
            await self.close(NOT_SIGNED_IN)
            return
        for event in message["events"]:
            await self.send_json(event)

    async def _find_group(self) -> bool:
        return self._may_hear_of(None)

    def _may_hear_of(self, project_id: UUID | None) -> bool:
        key = self.scope.get("api_key")
        return key is None or key.may(Scope.PROJECTS_READ, project_id)

    async def _may_watch(self) -> bool:
        if time.monotonic() - self.checked_at < RECHECK_S and self.checked_at:
            return True
        user, key = self.scope["user"], self.scope.get("api_key")
        if not user.is_authenticated or not await _exists(User.objects.filter(pk=user.pk, is_active=True)):
            return False
        if key is not None and not await _exists(live_keys(timezone.now()).filter(pk=key.pk)):
            return False
        self.checked_at = time.monotonic()
        return True


class ProjectEvents(Events):
    """What happens in one project."""

    async def _find_group(self) -> bool:
        project_id = self.scope["url_route"]["kwargs"]["project_id"]
        self.group = project_group(project_id)
        return self._may_hear_of(project_id) and await _exists(Project.objects.filter(pk=project_id))


async def _exists(rows: QuerySet[Any]) -> bool:
    """Ask in a thread that gives its connection back: a socket lives for hours and must not keep one."""
    return bool(await database_sync_to_async(rows.exists)())
