"""Who opens a WebSocket: a browser by its session and from our origin, or a program by its API key."""

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from accounts import actions
from accounts.errors import KeyRefused
from accounts.models import ApiKey
from accounts.scopes import Scope
from accounts.web import sent_key


class SessionOrKey:
    """Puts `user`, and with a key `api_key`, into the scope. No browser can send the header from another site."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.by_session = AllowedHostsOriginValidator(AuthMiddlewareStack(inner))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        header = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), "")
        if not header:
            await self.by_session(scope, receive, send)
            return
        key = await _find(sent_key(header))
        user = key.owner if key is not None and Scope.PROJECTS_READ in key.scopes else AnonymousUser()
        await self.inner({**scope, "user": user, "api_key": key}, receive, send)


@database_sync_to_async  # type: ignore[untyped-decorator]
def _find(text: str) -> ApiKey | None:
    try:
        return actions.use_key(text, now=timezone.now())
    except KeyRefused:
        return None
