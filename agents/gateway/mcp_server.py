"""The verbs as an MCP server. Each request stands alone: the run token says who calls, nothing is kept between.

What a request may be at all is decided in `mcp_requests`, before anything of the protocol's library sees it.

Source: https://modelcontextprotocol.io/specification.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from math import ceil
from typing import Any
from uuid import UUID

import mcp_types as types
from django.db import OperationalError
from django.utils import timezone
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from agents import queries
from agents.actions.verbs import actor_of
from agents.errors import UnknownToken
from agents.gateway.api_errors import ApiError
from agents.gateway.callers import LOOKED_AT_S, token_of
from agents.gateway.calling import NotBegun, Told, call_verb
from agents.gateway.database import Database
from agents.gateway.holds import Holds, ServedElsewhere
from agents.gateway.limits import Buckets, Places
from agents.gateway.mcp_requests import (
    LIMITED,
    MAX_BODY_BYTES,
    Json,
    Refused,
    check_body,
    check_source,
    read_message,
    replay,
)
from agents.gateway.refusals import Refusals
from agents.gateway.remembering import Remembered
from agents.gateway.strangers import Door, Strangers, peer_of
from agents.gateway.tokens import Tokens
from agents.gateway.unserved import AWAY, Unserved
from agents.gateway.verbs import VERBS, offered
from agents.models import Run
from agents.tokens import hash_token
from projects import audit

logger = logging.getLogger(__name__)

NAME = "eklavya"
# Far more than work needs: each call writes rows that are kept for ever.
MOST_A_MINUTE = 300
BURST = 100
MOST_AT_ONCE = 8
# A key in the ASGI scope.
_TOKEN = "eklavya.run_token"
_TOO_MANY = 429
_MOST_REMEMBERED = 10_000
_AWAY_S = 5
# For so long a verb is tried again that the platform could not begin; less than a program waits for it (a minute).
_PATIENCE_S = 15.0
_LOOK_AGAIN_S = 0.5

Expect = Callable[[Headers], Coroutine[None, None, object]]


class McpEndpoint:
    """The ASGI application at /mcp. Its manager must be running (`run`, once).

    An agent's program connects here a moment before its first model request: then `expect` is given its headers, and
    nobody waits for it.
    """

    def __init__(
        self,
        database: Database,
        strangers: Strangers,
        tokens: Tokens,
        holds: Holds,
        expect: Expect,
        refusals: Refusals,
    ) -> None:
        self._database = database
        self._tokens = tokens
        # What does not change about a run: whether its token is good is asked each time.
        self._runs: Remembered[str, Run] = Remembered(lambda key: database.call(queries.run_by_token_hash, key))
        self._holds = holds
        self._strangers = strangers
        self._refusals = refusals
        self._expect = expect
        self._expecting: set[asyncio.Task[object]] = set()
        self._places = Places(MOST_AT_ONCE)
        self._buckets = Buckets(MOST_A_MINUTE, burst=BURST)
        self._limited: dict[UUID, None] = {}
        self._unserved = Unserved()
        server: Server[Any] = Server(NAME, on_list_tools=self._list_tools, on_call_tool=self._call_tool)
        self._manager = StreamableHTTPSessionManager(
            server,
            json_response=True,
            stateless=True,
            # Sandboxes know the gateway by an address that varies: `check_source` looks at it.
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=MAX_BODY_BYTES,
        )
        self.run = self._manager.run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer whoever shows the token of an active run."""
        request = Request(scope)
        run_id: UUID | None = None
        token = ""
        try:
            check_source(request.headers)
            token = token_of(request.headers)
            run_id = await self._tokens.run_of(hash_token(token))
            if scope["method"] != "POST":
                # Nothing is ever said unasked; a stream for it would only hold one of the run's places.
                await JSONResponse({"error": "use POST"}, 405, {"allow": "POST"})(scope, receive, send)
                return
            check_body(request.headers)
            await self._holds.take(run_id)
            with self._place(run_id):
                message = await read_message(receive)
                await self._take_turn(run_id, token, message)
                if message.get("method") == "initialize":
                    self._prepare(request.headers, token)
                await self._manager.handle_request(_with(scope, token), replay(message, receive), send)
        except Refused as refused:
            await refused.response()(scope, receive, send)
            if run_id is not None and refused.status != _TOO_MANY:
                await self._note(token, refused)
        except ServedElsewhere as error:
            self._unserved.note(token)
            await Refused(503, str(error), retry_after_s=1).response()(scope, receive, send)
        except OperationalError as error:
            logger.warning("an agent could not be served: %s", error)
            self._unserved.note(token)
            await Refused(503, AWAY, retry_after_s=_AWAY_S).response()(scope, receive, send)
            return
        except UnknownToken as error:
            asked = {"www-authenticate": f'Bearer realm="{NAME}"'}
            refusal = {"error": "invalid_token", "error_description": str(error)}
            await JSONResponse(refusal, 401, asked)(scope, receive, send)
        if run_id is None:
            await self._strangers.note(Door.MCP, peer_of(request), now=timezone.now())

    @contextmanager
    def _place(self, run_id: UUID) -> Iterator[None]:
        try:
            with self._places.take(run_id):
                yield
        except ApiError as error:  # the model's API has another shape
            raise Refused(429, error.message, code=LIMITED, retry_after_s=1) from None

    async def _note(self, token: str, refused: Refused) -> None:
        """Record what is no message. It was answered; who asks too often is in `_take_turn`."""
        try:
            run = await self._run_of(token)
        except (UnknownToken, OperationalError) as error:  # it ended in this moment, or the database is away
            logger.warning("a refusal could not be recorded: %s", error)
        else:
            await self._refusals.note_message(run, refused.status, str(refused), now=timezone.now())

    def _prepare(self, headers: Headers, token: str) -> None:
        for soon in (self._run_of(token), self._expect(headers)):
            task: asyncio.Task[object] = asyncio.create_task(soon)
            self._expecting.add(task)  # asyncio itself keeps none
            task.add_done_callback(self._expected)

    def _expected(self, task: "asyncio.Task[object]") -> None:
        self._expecting.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.info("looking ahead failed: %r", error)  # whoever asks is told

    async def _run_of(self, token: str) -> Run:
        return await self._runs.of(hash_token(token), fresh_s=LOOKED_AT_S, usable_s=LOOKED_AT_S)

    async def _take_turn(self, run_id: UUID, token: str, message: Json) -> None:
        """Raise Refused when the run asks too often. The first time goes into the audit log."""
        wait_s = self._buckets.take(run_id)
        if not wait_s:
            return
        sentence = f"Too many requests: {MOST_A_MINUTE} a minute at most. Wait {ceil(wait_s)} seconds."
        if run_id not in self._limited:
            self._limited[run_id] = None
            if len(self._limited) > _MOST_REMEMBERED:
                del self._limited[next(iter(self._limited))]
            await self._database.call(_note_limit, await self._run_of(token), sentence, now=timezone.now())
        raise Refused(429, sentence, code=LIMITED, request_id=message.get("id"), retry_after_s=ceil(wait_s))

    async def _list_tools(
        self, context: ServerRequestContext[Any, Request], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        run = await self._run_of(_token(context))
        # Only a specialisation may have to be looked up.
        tools = await self._database.call(_tools, run) if run.specialisations else _tools(run)
        return types.ListToolsResult(tools=tools)

    async def _call_tool(
        self, context: ServerRequestContext[Any, Request], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        token = _token(context)
        told = await self._patiently(token, params.name, params.arguments or {})
        if told.is_ours:
            self._unserved.note(token)
        return types.CallToolResult(content=[types.TextContent(type="text", text=told.text)], is_error=told.is_error)

    async def _patiently(self, token: str, name: str, arguments: Json) -> Told:
        """Carry out a verb; while the platform cannot begin with it, try again."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE_S
        while True:
            try:
                is_excused = self._unserved.was(token)
                return await self._database.call(
                    call_verb, token, name, arguments, now=timezone.now(), is_excused=is_excused
                )
            except NotBegun as error:
                if loop.time() > give_up:
                    return Told(AWAY, is_error=True, is_ours=True)
                logger.warning("a verb waits for the database: %s", error)
                await asyncio.sleep(_LOOK_AGAIN_S)


def _with(scope: Scope, token: str) -> Scope:
    """Return the scope for a message that was read and written anew."""
    kept = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": kept, _TOKEN: token}


def _note_limit(run: Run, sentence: str, *, now: datetime) -> None:
    with audit.journal(by=actor_of(run), now=now) as journal:
        journal.add("mcp.rate_limited", project_id=run.project_id, obj=run, details={"why": sentence})


def _token(context: ServerRequestContext[Any, Request]) -> str:
    token: str = _scope(context)[_TOKEN]
    return token


def _scope(context: ServerRequestContext[Any, Request]) -> Scope:
    assert context.request is not None, "only HTTP reaches this server"
    return context.request.scope


def _tools(run: Run) -> list[types.Tool]:
    return [_TOOLS[verb.name] for verb in offered(run)]


# Making a schema takes milliseconds, and a run's first model request waits for the list.
_TOOLS = {
    verb.name: types.Tool(name=verb.name, description=verb.description, input_schema=verb.arguments.model_json_schema())
    for verb in VERBS.values()
}
