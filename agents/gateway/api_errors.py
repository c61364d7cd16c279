"""Refusals in the model API's own shape, so that the CLI treats them as it treats the API's.

Source: https://docs.anthropic.com/en/api/errors. What the CLI does with each was tried with the real one: it tries 429,
5xx and 529 again by itself, 402 not; 400 it repeats twice with less in the request, 403 it calls a failed login.
"""

import uuid
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}


class ApiError(Exception):
    """A refusal; `kind` is the API's name for it and decides the status."""

    def __init__(self, kind: str, message: str, *, status: int = 0, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status or _STATUS[kind]
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        """Return it as the API would send it."""
        request_id = f"req_{uuid.uuid4().hex[:24]}"
        headers: Mapping[str, str] = {"request-id": request_id}
        if self.retry_after_s is not None:
            headers = {**headers, "retry-after": str(self.retry_after_s)}
        error = {"type": self.kind, "message": self.message}
        return JSONResponse({"type": "error", "error": error, "request_id": request_id}, self.status, headers)


def ended(message: str) -> ApiError:
    """Return the refusal of a run that may send no more requests: the one that the CLI does not repeat."""
    return ApiError("billing_error", message)


async def handle_api_error(request: Request, error: Exception) -> JSONResponse:
    """Answer with an ApiError that an endpoint raised."""
    assert isinstance(error, ApiError)
    return error.response()
