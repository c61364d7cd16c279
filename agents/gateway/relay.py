"""One model request from the sandbox to the API and back, with the money held while it is under way."""

import logging
from uuid import UUID

import anyio
import httpx
from anyio.lowlevel import checkpoint
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from agents.errors import UnknownToken
from agents.gateway import accounts
from agents.gateway.api_errors import ApiError
from agents.gateway.callers import Caller, Callers
from agents.gateway.database import Database
from agents.gateway.limits import Places
from agents.gateway.metering import Meter, StreamMeter, WholeMeter, estimate_tokens
from agents.gateway.model_request import MAX_BODY_BYTES, ModelRequest, read_request
from agents.gateway.upstream import Upstream, returned_headers
from billing.prices import Usage

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 4  # requests of one run
# Waits before the next attempt to settle, in seconds: a database that restarts is back by then.
_SETTLE_AGAIN_S = (0.5, 1, 2, 4, 8)
# In all, so that a reservation never expires under a request that is still alive.
_LONGEST_S = 30 * 60
_LARGEST_ERROR_BYTES = 1024 * 1024


class Relay:
    """The endpoint of model requests, as an ASGI application. With `counting` nothing is spent and nothing held."""

    def __init__(self, path: str, *, callers: Callers, database: Database, upstream: Upstream, places: Places) -> None:
        self._path = path
        self._counting = path.endswith("/count_tokens")
        self._callers = callers
        self._database = database
        self._upstream = upstream
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            caller = await self._callers.of(request.headers)
            asked = read_request(await _read_body(request), counting=self._counting)
            accounts.check_model(caller, asked.model)
            with self._places.take(caller.run_id) as in_flight, anyio.move_on_after(_LONGEST_S):
                exchange = _Exchange(self, request, caller, asked, in_flight)
                await exchange.run(send)
        except UnknownToken as error:
            await ApiError("authentication_error", str(error)).response()(scope, receive, send)
        except ApiError as error:
            await error.response()(scope, receive, send)
        except ClientDisconnect:
            return

    async def forward(self, request: Request, asked: ModelRequest) -> httpx.Response:
        """Send the request on. Raises ApiError when the API does not answer; the CLI then tries again."""
        try:
            return await self._upstream.send(self._path, asked.body, query=request.url.query, headers=request.headers)
        except httpx.RequestError as error:
            logger.warning("the model's API does not answer: %r", error)
            raise ApiError("overloaded_error", "The model's API does not answer.") from error

    async def hold(self, caller: Caller, asked: ModelRequest, in_flight: int) -> UUID | None:
        """Hold the request's money."""
        if self._counting:
            return None
        # A cancelled wait would leave the thread at work and the money held.
        with anyio.CancelScope(shield=True):
            held = await self._database.call(accounts.admit, caller, asked, in_flight=in_flight, now=timezone.now())
        return held

    async def close(self, caller: Caller, reservation: UUID | None, usage: Usage | None) -> None:
        """Settle or give back, whatever happens around. What cannot be settled expires at its full amount."""
        if reservation is None:
            return
        with anyio.CancelScope(shield=True):
            for pause in (*_SETTLE_AGAIN_S, None):
                try:
                    await self._database.call(accounts.close, caller, reservation, usage, now=timezone.now())
                    return
                except (OperationalError, InterfaceError):
                    if pause is None:
                        raise
                    logger.warning("the database does not answer, settling again", exc_info=True)
                    await anyio.sleep(pause)


class _Exchange:
    """One request under way, watched for the client's leaving."""

    def __init__(self, relay: Relay, request: Request, caller: Caller, asked: ModelRequest, in_flight: int) -> None:
        self._relay = relay
        self._request = request
        self._caller = caller
        self._asked = asked
        self._in_flight = in_flight
        self._input_estimate = estimate_tokens(len(asked.body))
        meter = StreamMeter if asked.is_stream else WholeMeter
        self._meter: Meter = meter(input_estimate=self._input_estimate)
        self._is_waiting = False  # sent, and nothing known of an answer
        self._error: ApiError | None = None

    async def run(self, send: Send) -> None:
        """Carry the request out until its answer is through or the client left. Raises ApiError."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group.cancel_scope)
            try:
                await self._carry_out(send)
            except ApiError as error:
                self._error = error  # raised in the group it would come out as a group
            group.cancel_scope.cancel()
        if self._error is not None:
            raise self._error

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _carry_out(self, send: Send) -> None:
        reservation = await self._relay.hold(self._caller, self._asked, self._in_flight)
        try:
            await self._pass_through(send)
        finally:
            await self._relay.close(self._caller, reservation, self._usage())

    def _usage(self) -> Usage | None:
        """Return what to settle. Whoever leaves before the answer begins still pays for what was read."""
        used = self._meter.usage()
        return Usage(input_tokens=self._input_estimate) if used is None and self._is_waiting else used

    async def _pass_through(self, send: Send) -> None:
        await checkpoint()  # who left while the money was being held does not pay for what was never sent
        self._is_waiting = True
        try:
            response = await self._relay.forward(self._request, self._asked)
        except ApiError:
            self._is_waiting = False
            raise
        try:
            if response.status_code == httpx.codes.OK:
                await self._pass_answer(response, send)
            else:
                self._is_waiting = False
                await _pass_error(response, send)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _pass_answer(self, response: httpx.Response, send: Send) -> None:
        await _start(response, send)
        try:
            async for chunk in response.aiter_bytes():
                self._meter.feed(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except httpx.RequestError as error:
            # Left without its last message, the server cuts the client's connection too: the CLI must notice.
            self._is_waiting = False
            logger.warning("an answer of the model's API was cut: %r", error)
            return
        self._is_waiting = False
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pass_error(response: httpx.Response, send: Send) -> None:
    """Hand the API's refusal on; the CLI knows what to do about each."""
    if response.status_code in {401, 403}:
        logger.error("the model's API refuses the platform's key: status %s", response.status_code)
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk[: _LARGEST_ERROR_BYTES - len(body)]
    except httpx.RequestError as error:
        logger.warning("a refusal of the model's API was cut: %r", error)
    await _start(response, send)
    await send({"type": "http.response.body", "body": bytes(body), "more_body": False})


async def _start(response: httpx.Response, send: Send) -> None:
    headers = returned_headers(response.headers)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})


async def _read_body(request: Request) -> bytes:
    """Return the body. Raises ApiError when it is too long or packed."""
    too_large = ApiError("request_too_large", "Request exceeds the maximum allowed number of bytes.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError("invalid_request_error", "The request body must not be compressed.")
    if int(request.headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)
