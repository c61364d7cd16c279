"""Reading a request's body: its kind and its size, before anything looks into it."""

from starlette.requests import Request

from agents.gateway.api_errors import ApiError
from agents.gateway.model_request import MAX_BODY_BYTES


async def read_body(request: Request) -> bytes:
    """Return the body. Raises ApiError when it is too long, packed, or said to be something else than JSON."""
    headers = request.headers
    if headers.get("content-encoding", "identity") != "identity":
        raise ApiError("invalid_request_error", "The request body must not be compressed.")
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError("invalid_request_error", "content-type: the request body must be application/json.")
    if _length(headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _length(said: str) -> int:
    if not (said.isascii() and said.isdigit() and len(said) < 20):
        raise ApiError("invalid_request_error", "content-length: must be a number.")
    return int(said)


def _too_large() -> ApiError:
    return ApiError("request_too_large", "Request exceeds the maximum allowed number of bytes.")
