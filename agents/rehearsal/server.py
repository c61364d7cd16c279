"""The rehearsal model's server: `uvicorn agents.rehearsal.server:app`.

It speaks the Anthropic Messages API, so that the real Claude Code CLI works against it, and keeps nothing but the
counters of `misbehaviour`. Its answers come from `model`.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import model, usage, wire
from .misbehaviour import Memory, Order
from .wire import JSON, ApiError

_DEFAULT_PAUSE_S = 0.2
_DEFAULT_STALL_S = 600.0
_NO_STREAM = b"<html><body>502 Bad Gateway \xff\xfe</body></html>"


class Stream(Response):
    """Server-sent events, with the misbehaviour that was ordered."""

    def __init__(self, events: list[JSON], order: Order | None, request_id: str) -> None:
        super().__init__(
            headers={"request-id": request_id, "cache-control": "no-cache"}, media_type="text/event-stream"
        )
        # The length is not known beforehand, and a cut has to look like one.
        del self.headers["content-length"]
        self._events = events
        self._order = order

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the client goes away."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        done, pending = await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not (self._order and self._order.fault == "cut"):
            # Without this last message the server closes the connection in the middle of the body.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[bytes]:
        order = self._order
        fault = order.fault if order else ""
        if fault == "garbage" and order and order.mode != "input":
            yield _NO_STREAM
            return
        if fault == "stall" and order:
            yield b": stalled\n\n"
            await asyncio.sleep(order.delay_s or _DEFAULT_STALL_S)
            return
        for event in self._events[: len(self._events) // 2] if fault == "cut" else self._events:
            if fault == "slow" and order:
                await asyncio.sleep(_DEFAULT_PAUSE_S if order.delay_s is None else order.delay_s)
            yield wire.encode(_spoilt(event) if fault == "garbage" else event)


def _spoilt(event: JSON) -> JSON:
    """The event with a tool input that is no JSON."""
    delta = event.get("delta", {})
    if delta.get("type") == "input_json_delta" and delta["partial_json"]:
        return {**event, "delta": {**delta, "partial_json": "{]" + delta["partial_json"][:5]}}
    return event


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def create_app(*, memory: Memory | None = None) -> Starlette:
    """The application. Tests may hand in a memory with a clock of their own."""
    application = Starlette(
        routes=[
            Route("/v1/messages", _messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
            Route("/v1/models/{model}", _model, methods=["GET"]),
            Route("/healthz", _health, methods=["GET"]),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _internal_error},
    )
    application.state.memory = memory or Memory()
    return application


def _json(body: JSON, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # ASCII, unlike Starlette's own: a lone surrogate in a request must not make its answer fail.
    return Response(json.dumps(body), status, headers, media_type="application/json")


def _request_id(request: Request) -> str:
    if not hasattr(request.state, "request_id"):
        request.state.request_id = f"req_{uuid.uuid4().hex[:24]}"
    return str(request.state.request_id)


def _error(request: Request, error: ApiError, status: int | None = None) -> Response:
    request_id = _request_id(request)
    headers = {"request-id": request_id}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    return _json(error.body(request_id), status=status or error.status, headers=headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _error(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    return _error(request, ApiError(kind, error.detail), error.status_code)


async def _internal_error(request: Request, _: Exception) -> Response:
    return _error(request, ApiError("api_error", "Internal server error"))


def _check_headers(request: Request) -> None:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer").strip()
    if not (request.headers.get("x-api-key", "").strip() or bearer):
        raise ApiError("authentication_error", "x-api-key header is required")
    if not request.headers.get("anthropic-version"):
        raise ApiError("invalid_request_error", "anthropic-version: header is required")


async def _body(request: Request) -> object:
    """The parsed body. Raises ApiError when it is too long or no JSON."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > wire.MAX_BODY_BYTES:
            raise ApiError("request_too_large", "Request exceeds the maximum allowed number of bytes.")
    try:
        return json.loads(received)
    except (ValueError, RecursionError):
        raise ApiError("invalid_request_error", "The request body is not valid JSON.") from None


async def _messages(request: Request) -> Response:
    _check_headers(request)
    body = wire.check_request(await _body(request))
    context = model.context_of(body)
    memory: Memory = request.app.state.memory
    fault = memory.next_fault(context) if context else None
    order = fault[0] if fault else None
    if fault:
        _refuse(*fault)
    answer = model.answer(body, context)
    shape = {
        "message_id": model.identifier("msg_", json.dumps(body["messages"])),
        "model": body["model"].removesuffix("[1m]"),
        "usage": usage.usage(body, answer),
    }
    if body.get("stream"):
        return Stream(list(wire.events(answer, **shape)), order, _request_id(request))
    return await _whole(wire.message(answer, **shape), order, _request_id(request))


def _refuse(order: Order, seconds_left: int) -> None:
    """Raise the error that was ordered, if it is one."""
    match order.fault:
        case "429":
            message = "This request would exceed your account's rate limit. Please try again later."
            raise ApiError("rate_limit_error", message, retry_after_s=seconds_left)
        case "529":
            raise ApiError("overloaded_error", "Overloaded")
        case "500":
            raise ApiError("api_error", "Internal server error")


async def _whole(body: JSON, order: Order | None, request_id: str) -> Response:
    """An answer in one piece; a cut or garbled one is half its JSON."""
    headers = {"request-id": request_id}
    if order and order.fault in {"slow", "stall"}:
        default = _DEFAULT_PAUSE_S if order.fault == "slow" else _DEFAULT_STALL_S
        await asyncio.sleep(default if order.delay_s is None else order.delay_s)
    if order and order.fault in {"cut", "garbage"}:
        text = json.dumps(body)
        return Response(text[: len(text) // 2], headers=headers, media_type="application/json")
    return _json(body, headers=headers)


async def _count_tokens(request: Request) -> Response:
    _check_headers(request)
    body = wire.check_request(await _body(request), counting=True)
    return _json({"input_tokens": usage.input_tokens(body)}, headers={"request-id": _request_id(request)})


async def _models(request: Request) -> Response:
    _check_headers(request)
    return _json(wire.model_list(), headers={"request-id": _request_id(request)})


async def _model(request: Request) -> Response:
    _check_headers(request)
    name = request.path_params["model"]
    wire.check_model(name)
    shown = dict(wire.MODELS).get(name, name)
    return _json(wire.model_info(name, shown), headers={"request-id": _request_id(request)})


async def _health(_: Request) -> Response:
    return _json({"status": "ok"})


app = create_app()
