"""The gateway's application: health, MCP, and the model's API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.errors import UnknownToken
from agents.gateway import accounts
from agents.gateway.api_errors import ApiError, handle_api_error
from agents.gateway.attempts import Attempts
from agents.gateway.callers import LOOKED_AT_S, Caller, Callers
from agents.gateway.cashier import Cashier
from agents.gateway.database import Database
from agents.gateway.holds import Holds
from agents.gateway.limits import Places
from agents.gateway.mcp_server import McpEndpoint
from agents.gateway.refusals import Refusals
from agents.gateway.relay import MOST_AT_ONCE, Relay, Services
from agents.gateway.strangers import Door, Strangers, peer_of
from agents.gateway.tokens import Tokens
from agents.gateway.ways import Ways

_MODELS = "/models/anthropic"
RELAYED = ("/v1/messages", "/v1/messages/count_tokens")


def build() -> ASGIApp:
    """Return a gateway as an ASGI application that owns its lifespan. It can be started once."""
    database = Database()
    holds = Holds("gateway")
    callers = Callers(database, holds)
    ways = Ways(database)
    strangers = Strangers(database)
    tokens = Tokens()
    refusals = Refusals(database)
    mcp = McpEndpoint(database, strangers, tokens, holds, partial(_expect, callers, ways), refusals)
    services = Services(
        callers=callers,
        database=database,
        cashier=Cashier(),
        ways=ways,
        attempts=Attempts(settings.EKLAVYA_MODEL_PATIENCE_SECONDS),
        places=Places(MOST_AT_ONCE),
        refusals=refusals,
        strangers=strangers,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with mcp.run():
            yield
        await services.cashier.stop()
        await tokens.stop()
        await holds.stop()
        await ways.close()
        database.close()

    app = Starlette(
        routes=[
            Route("/healthz", _health, methods=["GET"]),
            Route("/mcp", mcp),
            *(Route(f"{_MODELS}{path}", _not_this_way, methods=["POST"]) for path in RELAYED),
            Route(f"{_MODELS}/v1/models", _models, methods=["GET"]),
            Route(f"{_MODELS}/v1/models/{{model}}", _model, methods=["GET"]),
        ],
        exception_handlers={
            ApiError: handle_api_error,
            UnknownToken: _unknown_token,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=lifespan,
    )
    app.state.services = services
    return _Gateway(app, {path: Relay(path, services) for path in RELAYED})


async def _expect(callers: Callers, ways: Ways, headers: Headers) -> None:
    """Look up what the run's first model request would wait for. What fails here is said there."""
    with suppress(UnknownToken, ApiError, DatabaseError):
        await ways.of(await callers.of(headers, max_age_s=LOOKED_AT_S))


class _Gateway:
    """The application, with a shorter way for the requests whose streams are long: each piece passes every layer."""

    def __init__(self, app: Starlette, relays: dict[str, Relay]) -> None:
        self._app = app
        self._relays = {_MODELS + path: relay for path, relay in relays.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or live through the lifespan."""
        relay = self._relays.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (relay or self._app)(scope, receive, send)


async def _not_this_way(_: Request) -> JSONResponse:
    """Stand for the requests of `_Gateway`'s own, so that other methods on their paths are told which one is right."""
    raise AssertionError("these are relayed before the routes are looked at")


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _caller(request: Request) -> Caller:
    return await _services(request).callers.of(request.headers)


async def _models(request: Request) -> JSONResponse:
    """List the models that the run may use."""
    ids = accounts.offered_models(await _caller(request))
    data = [_shown(model) for model in ids]
    return JSONResponse({"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]})


async def _model(request: Request) -> JSONResponse:
    model = request.path_params["model"]
    accounts.check_model(await _caller(request), model)
    return JSONResponse(_shown(model))


def _shown(model: str) -> dict[str, str]:
    return {"type": "model", "id": model, "display_name": model, "created_at": "2025-01-01T00:00:00Z"}


async def _unknown_token(request: Request, error: Exception) -> JSONResponse:
    response = ApiError("authentication_error", str(error)).response()
    note = _services(request).strangers.note
    response.background = BackgroundTask(note, Door.MODEL, peer_of(request), now=timezone.now())
    return response


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    refusal = ApiError(kind, error.detail, status=error.status_code)
    response = refusal.response()
    response.background = BackgroundTask(_note_astray, request, refusal)
    return response


async def _note_astray(request: Request, refusal: ApiError) -> None:
    """Record who asked for what is not there: a run, each reason once, or a stranger."""
    services, path = _services(request), request.url.path
    try:
        caller = await services.callers.of(request.headers)
    except UnknownToken:
        await services.strangers.note(Door.NONE, peer_of(request), path=path, now=timezone.now())
    else:
        said = ApiError(refusal.kind, f"{refusal.message}: {path}", status=refusal.status)
        await services.refusals.note(caller, said, now=timezone.now())


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    return ApiError("api_error", "Internal server error").response()
