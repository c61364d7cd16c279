"""What reaches the MCP server at all: one JSON-RPC message of bounded size and depth, from a program in a sandbox.

Refusals have the protocol's shape, so that a client shows their sentence to its agent.
Source: https://www.jsonrpc.org/specification, https://modelcontextprotocol.io/specification (transports).
"""

import asyncio
import ipaddress
import json
from typing import Any, NoReturn

from mcp_types import INVALID_REQUEST, PARSE_ERROR
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Message, Receive

Json = dict[str, Any]

# A plan of a thousand tasks, each as long as it may be, is refused before this matters.
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
# From a sandbox on the same machine.
READ_S = 20.0
MAX_TOKEN_CHARS = 200
LIMITED = -32000  # of the range that the specification leaves to servers
_MAX_ID_CHARS = 200
_NOT_READ = (408, 413, 415)
# Names that a public page cannot be served under: a name that leads to a page's own machine first, and here later
# (DNS rebinding), is none of these.
_OWN_DOMAINS = (".internal", ".localhost", ".local")


class Refused(Exception):
    """This request is not served. Carries how to say so."""

    def __init__(
        self, status: int, message: str, *, code: int = INVALID_REQUEST, request_id: Any = None, retry_after_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        """Return it as JSON-RPC over HTTP."""
        error = {"code": self.code, "message": str(self)}
        headers = {"retry-after": str(self.retry_after_s)} if self.retry_after_s else {}
        if self.status in _NOT_READ:
            # Whoever is still sending is cut off, instead of read to the end.
            headers["connection"] = "close"
        return JSONResponse({"jsonrpc": "2.0", "id": self.request_id, "error": error}, self.status, headers)


def check_source(headers: Headers) -> None:
    """Raise Refused for what comes from no agent's program: a browser's request, a token that cannot be one."""
    if "origin" in headers:
        raise Refused(403, "Browsers are not served here.")
    if not _is_own(headers.get("host", "")):
        raise Refused(421, "This host name is not served here.")
    if len(headers.get("authorization", "")) + len(headers.get("x-api-key", "")) > MAX_TOKEN_CHARS:
        raise Refused(431, "The token is too long.")


def check_body(headers: Headers) -> None:
    """Raise Refused for a body of another type, or one that says it is too long."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "The content type must be application/json.")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
        raise _too_long()


def _too_long() -> Refused:
    return Refused(413, f"A request has at most {MAX_BODY_BYTES:,} bytes.")


def _is_own(host: str) -> bool:
    """Whether it is an address, or a name of this machine's own networks. A port may follow."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host.partition(":")[0].rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(_OWN_DOMAINS))
    return True


async def read_message(receive: Receive) -> Json:
    """Read the body, and return the message in it. Raises Refused for anything but one sound JSON-RPC message."""
    try:
        async with asyncio.timeout(READ_S):
            body = await _read(receive)
    except TimeoutError:
        raise Refused(408, f"The request did not arrive within {READ_S:g} seconds.") from None
    return _checked(parse(body))


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Refused(400, "The request broke off.")
        body += event.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_long()
        if not event.get("more_body", False):
            return bytes(body)


def parse(body: bytes) -> Any:
    """Return the JSON in a body. Raises Refused: not UTF-8, not JSON, NaN and the like, nested too deeply."""
    try:
        # Only whoever exceeds the stack's depth finds out how deep it is.
        found = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Refused(400, f"The request is not JSON: {str(error)[:200]}", code=PARSE_ERROR) from None
    if _is_deeper(found, MAX_DEPTH):
        raise _too_deep()
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


def _too_deep() -> Refused:
    return Refused(400, f"The request nests deeper than {MAX_DEPTH} levels.", code=PARSE_ERROR)


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie deeper in each other, found without going deep oneself."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            item
            for outer in layer
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return True


def _checked(found: Any) -> Json:
    if isinstance(found, list):
        raise Refused(400, "Batches are not served: send one message in each request.")
    if not isinstance(found, dict) or found.get("jsonrpc") != "2.0":
        raise Refused(400, 'The request is no message of JSON-RPC: an object with "jsonrpc": "2.0".')
    request_id = found.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        raise Refused(400, "An id is a string or a whole number.")
    if len(str(request_id)) > _MAX_ID_CHARS:
        raise Refused(400, f"An id has at most {_MAX_ID_CHARS} characters.")
    if not isinstance(found.get("method", ""), str):
        raise Refused(400, "A method is a string.", request_id=request_id)
    if not isinstance(found.get("params", {}), dict):
        raise Refused(400, "Parameters are an object.", request_id=request_id)
    return found


def replay(message: Json, receive: Receive) -> Receive:
    """Return an ASGI `receive` that gives a message that was read: what was checked is what is done, twice-named
    members and all. After it comes what else `receive` has to say."""
    events: list[Message] = [{"type": "http.request", "body": json.dumps(message).encode(), "more_body": False}]

    async def again() -> Message:
        return events.pop() if events else await receive()

    return again
