"""What programs are refused at the API and before it, for the audit log (`projects.actions.refusals`)."""

from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

from channels.db import database_sync_to_async
from django.utils import timezone
from rest_framework.exceptions import MethodNotAllowed, ParseError, UnsupportedMediaType, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import actions as accounts
from accounts.errors import KeyRefused
from accounts.models import ApiKey
from accounts.web import sent_key
from agents.errors import ReportRefused
from projects.actions import refusals
from projects.actions.refusals import Refusal
from projects.actors import Actor
from projects.errors import DomainError, InvalidBrief
from projects.workflows.definition import InvalidWorkflow

ACTION = "request.refused"
# Of all who show no key, together.
MOST_STRANGERS = 50
# Bodies that a process records at one moment. Whoever sends them waits for nothing: more are not looked at.
MOST_AT_ONCE = 4
# Who refuses these records them.
_RECORDED = (ReportRefused, InvalidBrief, InvalidWorkflow)
_QUOTING = (ValidationError, ParseError, UnsupportedMediaType, MethodNotAllowed)
_SERVER = Actor.system("web")
_CHARS = 200
_free = BoundedSemaphore(MOST_AT_ONCE)
_threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="refused")
# Of this process since it began.
_missed = 0


def note_answer(error: Exception, answer: Response, request: Request | None) -> None:
    """Record that a program's request was refused; what a person's session sends is between them and the page."""
    key = request.auth if request is not None else None
    if request is None or not isinstance(key, ApiKey) or isinstance(error, _RECORDED):
        return
    match = request.resolver_match
    said = answer.data["error"]
    where = f"{(request.method or '')[:10]} {match.url_name if match else ''}"
    details = {"request": where, "status": answer.status_code, "code": said["code"], "why": _why(error, said)}
    refusal = Refusal(ACTION, f"key {key.pk}", f"{where} {said['code']}", details | {"key": key.prefix}, key)
    refusals.note(refusal, by=Actor.person(key.owner), now=timezone.now())


def _why(error: Exception, said: dict[str, Any]) -> str:
    """Return the reason, and nothing of what was sent: of fields their names and what rule each breaks.

    Sentences for whoever sent it may quote it, so of an error that has such sentences only its kind is told.
    """
    if isinstance(error, DomainError):
        return type(error).__name__
    if isinstance(error, _QUOTING):
        return str(error.get_codes())[:_CHARS]
    return str(said["message"])[:_CHARS]


async def note_body(scope: dict[str, Any]) -> None:
    """Record that a body was larger than anything that is taken: of a key, or of an address.

    On threads of its own, as WebSockets share one. Those above MOST_AT_ONCE are told of in later rows, as `missed`.
    """
    global _missed
    if not _free.acquire(blocking=False):
        _missed += 1
        return
    try:
        await database_sync_to_async(_note_body, thread_sensitive=False, executor=_threads)(scope)
    finally:
        _free.release()


def _note_body(scope: dict[str, Any]) -> None:
    header = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), "")
    peer = (scope.get("client") or ("",))[0]
    details = {"status": 413, "code": "too_large", "from": peer, "path": scope.get("path", "")[:_CHARS]}
    if _missed:
        details["missed"] = _missed
    key = _key(sent_key(header)) if header else None
    if key is None:
        refusal = Refusal(ACTION, "strangers", f"too_large {peer}", details, most_kinds=MOST_STRANGERS)
        refusals.note(refusal, by=_SERVER, now=timezone.now())
    else:
        refusal = Refusal(ACTION, f"key {key.pk}", "too_large", details | {"key": key.prefix}, key)
        refusals.note(refusal, by=Actor.person(key.owner), now=timezone.now())


def _key(text: str) -> ApiKey | None:
    try:
        return accounts.use_key(text, now=timezone.now())
    except KeyRefused:
        return None
