"""The web server's application: previews by host name, then WebSockets and pages of the portal."""

import os

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "eklavya.settings")
django.setup()

from demos.proxy import close_connections, is_preview_host, preview_app  # noqa: E402
from eklavya.bodies import LimitedBodies  # noqa: E402
from eklavya.refused import note_body  # noqa: E402
from eklavya.routing import websocket_urlpatterns  # noqa: E402
from eklavya.sockets import SessionOrKey  # noqa: E402

_portal = ProtocolTypeRouter(
    {
        "http": LimitedBodies(get_asgi_application(), note_body),
        "websocket": SessionOrKey(URLRouter(websocket_urlpatterns)),
    }
)


async def application(scope, receive, send):  # type: ignore[no-untyped-def]
    """Dispatch on the Host header first: an agent's application must never share the portal's origin."""
    match scope["type"]:
        case "lifespan":
            await _lifespan(receive, send)
        case _ if is_preview_host(_host(scope)):
            await preview_app(scope, receive, send)
        case _:
            await _portal(scope, receive, send)


def _host(scope) -> str:  # type: ignore[no-untyped-def]
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")


async def _lifespan(receive, send) -> None:  # type: ignore[no-untyped-def]
    """Django and Channels refuse this scope, so it is answered here."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await close_connections()
    await send({"type": "lifespan.shutdown.complete"})
