"""What the gateway's tests stand on: real servers on free ports, a model that does as told, a run with money."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.models import Run
from agents.tokens import hash_token, new_token
from billing import actions as billing
from billing.models import Price
from tests.factories import NOW, RunFactory
from tests.serving import QuickServer

JSON = dict[str, Any]
DEADLINE_S = 60.0


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Run an application in a thread and yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        log_level="critical",
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=5,
        # as eklavya.services.components has it
        server_header=False,
        date_header=False,
    )
    server = QuickServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    assert server.started, "the server did not start"
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


def wait_until(condition: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """Look again until it is so, or fail."""
    give_up = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.01)


def event(kind: str, **fields: Any) -> bytes:
    """One server-sent event of the model's API."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def message_start(**usage: Any) -> bytes:
    usage = {"input_tokens": 1_000, "output_tokens": 1} | usage
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    return event("message_start", message=message)


def text_delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def message_delta(output_tokens: int = 200) -> bytes:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": output_tokens})


ANSWER = [
    message_start(),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    text_delta("Hello"),
    text_delta(" there ✓"),
    event("content_block_stop", index=0),
    message_delta(),
    event("message_stop"),
]


@dataclass
class Seen:
    """A request as the model got it."""

    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    raw: list[tuple[bytes, bytes]]


Behaviour = Callable[["ScriptedModel", Send], Awaitable[None]]


@dataclass
class ScriptedModel:
    """A model's API that answers as told, and remembers what it was asked."""

    behave: Behaviour
    seen: list[Seen] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        raw = [(bytes(name), bytes(value)) for name, value in request.headers.raw]
        self.seen.append(Seen(request.url.path, request.url.query, dict(request.headers), body, raw))
        working = asyncio.ensure_future(self.behave(self, send))
        leaving = asyncio.ensure_future(_left(receive))
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            self.left.set()
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)

    async def wait(self) -> None:
        """Wait for the test's word."""
        while not self.go_on.is_set():
            await asyncio.sleep(0.01)


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def begin(send: Send, status: int = 200, **headers: str) -> None:
    pairs = {"content-type": "text/event-stream", "set-cookie": "who=platform"}
    pairs |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def write(send: Send, *chunks: bytes, end: bool = False) -> None:
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if end:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def answers(*chunks: bytes) -> Behaviour:
    """Stream these and end well."""

    async def behave(model: ScriptedModel, send: Send) -> None:
        await begin(send)
        await write(send, *chunks, end=True)

    return behave


def cuts(*chunks: bytes) -> Behaviour:
    """Stream these and break off."""

    async def behave(model: ScriptedModel, send: Send) -> None:
        await begin(send)
        await write(send, *chunks)

    return behave


def stalls(*chunks: bytes, head: bool = True) -> Behaviour:
    """Stream these, wait for the test's word, and stream the rest of a good answer."""

    async def behave(model: ScriptedModel, send: Send) -> None:
        if head:
            await begin(send)
        await write(send, *chunks)
        await model.wait()
        if not head:
            await begin(send)
        await write(send, *ANSWER, end=True)

    return behave


def refuses(status: int, body: bytes = b"{}", **headers: str) -> Behaviour:
    """Answer with an error."""

    async def behave(model: ScriptedModel, send: Send) -> None:
        await begin(send, status, **({"content_type": "application/json"} | headers))
        await write(send, body, end=True)

    return behave


def fill_prices() -> None:
    """Set the prices again that a migration brought: tests with real transactions empty the table."""
    for model, factor in (("claude-sonnet-4-5", 3), ("claude-haiku-4-5", 1)):
        Price.objects.get_or_create(
            model=model,
            valid_from=date(2025, 1, 1),
            defaults={
                "input_per_mtok": factor,
                "output_per_mtok": 5 * factor,
                "cache_write_per_mtok": Decimal("1.25") * factor,
                "long_cache_write_per_mtok": 2 * factor,
                "cache_read_per_mtok": Decimal("0.1") * factor,
            },
        )


def start_run(*, limit: str = "5", **fields: Any) -> tuple[Run, str]:
    """Return a run at work, with its budgets, and its token."""
    fill_prices()
    token = new_token()
    run = RunFactory(**({"status": "running"} | fields), token_hash=hash_token(token))
    billing.open_budgets([billing.Opening(run.project, run_id=run.pk, run_limit=Decimal(limit))], now=NOW)
    return run, token


def ask(**fields: Any) -> JSON:
    """A request to the model."""
    message = {"role": "user", "content": "Say hello."}
    plain = {"model": "claude-sonnet-4-5", "max_tokens": 1_000, "stream": True, "messages": [message]}
    return plain | fields
