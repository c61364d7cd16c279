"""Real web servers for the proxy's tests: one in a thread of this process, and an application to be shown."""

import asyncio
import hashlib
import itertools
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from agents.runtimes.processes import poll
from tests.serving import QuickServer


@contextmanager
def served(app: Any, at_end: Callable[[], Awaitable[None]] | None = None) -> Iterator[str]:
    """Serve an ASGI application on a free port; yields host:port. `at_end` is awaited when the server stops."""
    whole = _with_lifespan(app, at_end) if at_end else app
    lifespan: Literal["on", "off"] = "on" if at_end else "off"
    config = uvicorn.Config(
        whole,
        port=0,
        lifespan=lifespan,
        log_level="warning",
        # the tests play both the visitor and whoever stands before the server
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = QuickServer(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert poll(lambda: server.started, timeout_s=60)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()


def _with_lifespan(app: Any, at_end: Callable[[], Awaitable[None]]) -> Any:
    async def whole(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await at_end()
        await send({"type": "lifespan.shutdown.complete"})

    return whole


class Application:
    """What an agent may have built; remembers what it saw of its visitors."""

    def __init__(self) -> None:
        self.forget()
        self.asgi = Starlette(
            routes=[
                Route("/cookies", self.cookies),
                Route("/headers", self.headers),
                Route("/stream", self.stream),
                Route("/wait", self.wait),
                Route("/cut", self.cut),
                Route("/gone", lambda _: RedirectResponse("http://127.0.0.1:1/elsewhere")),
                Route("/plain", lambda _: PlainTextResponse("plain")),
                Route("/{path:path}", self.echo, methods=["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]),
                WebSocketRoute("/echo", self.ws_echo),
                WebSocketRoute("/bye", self.ws_bye),
            ]
        )

    def forget(self) -> None:
        """Begin anew, for the next test."""
        self.left = threading.Event()
        self.seen_handshakes: list[dict[str, str]] = []

    async def echo(self, request: Request) -> Response:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.stream():
            digest.update(chunk)
            size += len(chunk)
        said = {
            "method": request.method,
            "target": request.scope["raw_path"].decode() + "?" + request.scope["query_string"].decode(),
            "headers": request.headers.items(),
            "size": size,
            "sha256": digest.hexdigest(),
        }
        return JSONResponse(said, status_code=201)

    async def cookies(self, request: Request) -> Response:
        response = PlainTextResponse("sweet")
        for cookie in (
            "basket=7; Path=/; Domain=preview.localhost; HttpOnly",
            "plain=1; domain = .localhost ; SameSite=Lax",
            "eklavya_session=stolen; Path=/",
            "csrftoken=stolen; Domain=localhost",
        ):
            response.raw_headers.append((b"set-cookie", cookie.encode()))
        return response

    async def headers(self, request: Request) -> Response:
        return PlainTextResponse(
            "x",
            headers={
                "X-Frame-Options": "DENY",
                "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
                "Referrer-Policy": "unsafe-url",
                "Clear-Site-Data": '"*"',
                "Alt-Svc": 'h2="evil:443"',
                "Strict-Transport-Security": "max-age=1; includeSubDomains",
                "Connection": "close, X-Private",
                "X-Private": "hop",
                "X-Own": "kept",
            },
        )

    async def stream(self, request: Request) -> Response:
        async def numbers() -> AsyncIterator[str]:
            try:
                for number in itertools.count():
                    yield f"{number}\n"
                    await asyncio.sleep(0.02)
            finally:
                self.left.set()

        return StreamingResponse(numbers())

    async def wait(self, request: Request) -> Response:
        with suppress(ClientDisconnect):
            while (await request.receive())["type"] != "http.disconnect":
                pass
        self.left.set()
        return PlainTextResponse("late")

    async def cut(self, request: Request) -> Response:
        return StreamingResponse(iter([b"half"]), headers={"Content-Length": "100"})

    async def ws_echo(self, socket: WebSocket) -> None:
        self.seen_handshakes.append(dict(socket.headers))
        asked = socket.scope["subprotocols"]
        await socket.accept(subprotocol=asked[-1] if asked else None, headers=[(b"x-own", b"kept")])
        with suppress(WebSocketDisconnect):
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    self.seen_handshakes.append({"code": json.dumps(message["code"])})
                    self.left.set()
                    return
                await socket.send(message | {"type": "websocket.send"})

    async def ws_bye(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("bye")
        await socket.close(4001, "had enough")
