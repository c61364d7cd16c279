"""One shape for every error of the API: {"error": {"code", "message", "fields"}}."""

import logging
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from eklavya.refused import note_answer
from projects.errors import DomainError, InvalidBrief, InvalidDecision, InvalidWebhook, NotAllowed
from projects.workflows.definition import InvalidWorkflow

logger = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[DomainError], int, str], ...] = (
    (NotAllowed, 403, "not_allowed"),
    (InvalidBrief, 422, "invalid"),
    (InvalidDecision, 422, "invalid"),
    (InvalidWebhook, 422, "invalid"),
    (InvalidWorkflow, 422, "invalid"),
    (DomainError, 409, "conflict"),
)
_CODES = {400: "invalid", 401: "not_signed_in", 403: "not_allowed", 404: "not_found", 405: "no_such_method"}
_CODES |= {406: "not_acceptable", 413: "too_large", 415: "wrong_content_type", 429: "too_many_requests"}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer what actions refuse and what was sent wrong; None, and so a 500, for everything else.

    What a program is refused is recorded.
    """
    answer = _answer(error, context)
    if answer is not None:
        try:
            note_answer(error, answer, context.get("request"))
        except DatabaseError:
            logger.warning("a refusal could not be recorded", exc_info=True)
    return answer


def _answer(error: Exception, context: dict[str, Any]) -> Response | None:
    if isinstance(error, DomainError):
        status, code = next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
        return Response(_body(code, str(error)), status=status)
    answer = exception_handler(error, context)
    if answer is None:
        return None
    fields = answer.data if isinstance(error, exceptions.ValidationError) else None
    answer.data = _body(_CODES.get(answer.status_code, "error"), _sentence(error, answer), fields)
    return answer


def not_found(request: HttpRequest, rest: str = "") -> JsonResponse:
    """Answer for addresses that the API does not have."""
    return JsonResponse(
        _body("not_found", "There is no such address in this API. /api/schema/ lists them."), status=404
    )


def _sentence(error: Exception, answer: Response) -> str:
    if isinstance(error, exceptions.ValidationError):
        return "What was sent cannot be used; see fields."
    if isinstance(error, Http404 | PermissionDenied):
        return str(error) or str(answer.data["detail"])
    return str(answer.data["detail"])


def _body(code: str, message: str, fields: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | ({"fields": fields} if fields is not None else {})}
