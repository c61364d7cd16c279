"""Previews' own web server: an ASGI application for all hosts below the preview domain.

The portal dispatches on the Host header before Django sees a request, so that no middleware, session or page of the
portal exists here, and nothing an agent wrote runs at the portal's origin.
"""

from django.utils import timezone

from demos import doors, pages
from demos.addresses import is_preview_host, preview_host, token_of
from demos.forwarding import close_connections, forward_http
from demos.pages import Page, closed_page
from demos.queries import Door
from demos.sockets import forward_websocket
from demos.visits import Receive, Scope, Send, Visit

__all__ = ["close_connections", "is_preview_host", "preview_app"]


async def preview_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request or WebSocket whose host is a preview's (`is_preview_host`)."""
    token = token_of(_host(scope))
    door = await doors.find(token)
    page = _refusal(door)
    if page is None:
        assert door is not None
        visit = Visit(
            scope=scope,
            receive=receive,
            send=send,
            token=token,
            host=preview_host(token),
            address=door.address,
        )
        page = await _forward(visit)
    if page is not None:
        await _show(page, scope, send)


def _refusal(door: Door | None) -> Page | None:
    """The page that is shown instead of the application, if any."""
    if door is None:
        return pages.UNKNOWN
    if not door.is_open(timezone.now()):
        return closed_page(door)
    return None if door.address else pages.STARTING


async def _forward(visit: Visit) -> Page | None:
    with doors.counted(visit.token) as admitted:
        if not admitted:
            return pages.BUSY
        forward = forward_websocket if visit.scope["type"] == "websocket" else forward_http
        page = await forward(visit)
    if page is pages.STARTING:
        # Nothing listens where the row said a moment ago: it may say something else by now.
        doors.forget(visit.token)
    return page


async def _show(page: Page, scope: Scope, send: Send) -> None:
    """Answer with a page of ours. A WebSocket that cannot have one is refused without words."""
    prefix = "websocket.http" if scope["type"] == "websocket" else "http"
    if prefix == "websocket.http" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    body = b"" if scope.get("method") == "HEAD" else page.body()
    await send({"type": f"{prefix}.response.start", "status": page.status, "headers": page.headers()})
    await send({"type": f"{prefix}.response.body", "body": body})


def _host(scope: Scope) -> str:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return hosts[0].decode("latin-1") if hosts else ""
