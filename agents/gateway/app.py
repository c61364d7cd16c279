"""The gateway's application: health, MCP, and the model's API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.conf import settings
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agents.errors import UnknownToken
from agents.gateway import accounts
from agents.gateway.api_errors import ApiError, handle_api_error
from agents.gateway.attempts import Attempts
from agents.gateway.callers import Caller, Callers
from agents.gateway.cashier import Cashier
from agents.gateway.database import Database
from agents.gateway.limits import Places
from agents.gateway.mcp_server import McpEndpoint
from agents.gateway.relay import MOST_AT_ONCE, Relay, Services
from agents.gateway.upstream import Upstream

_MODELS = "/models/anthropic"


def build() -> Starlette:
    """Return a gateway as an ASGI application that owns its lifespan. It can be started once."""
    database = Database()
    callers = Callers(database)
    upstream = Upstream(settings.EKLAVYA_MODEL_URL, settings.EKLAVYA_MODEL_KEY)
    mcp = McpEndpoint(database)
    services = Services(
        callers=callers,
        database=database,
        cashier=Cashier(),
        upstream=upstream,
        attempts=Attempts(settings.EKLAVYA_MODEL_PATIENCE_SECONDS),
        places=Places(MOST_AT_ONCE),
    )

    def relay(path: str) -> Route:
        return Route(f"{_MODELS}{path}", Relay(path, services), methods=["POST"])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with mcp.run():
            yield
        await services.cashier.stop()
        await upstream.close()
        database.close()

    app = Starlette(
        routes=[
            Route("/healthz", _health, methods=["GET"]),
            Route("/mcp", mcp),
            relay("/v1/messages"),
            relay("/v1/messages/count_tokens"),
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
    app.state.callers = callers
    return app


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _caller(request: Request) -> Caller:
    callers: Callers = request.app.state.callers
    return await callers.of(request.headers)


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
    return ApiError("authentication_error", str(error)).response()


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    return ApiError(kind, error.detail, status=error.status_code).response()


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    return ApiError("api_error", "Internal server error").response()
