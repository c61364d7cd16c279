"""What people are refused in the portal and in the admin, for the audit log (`projects.actions.refusals`).

Programs' requests are recorded by `eklavya.refused`, in rows of the same kind.
"""

from typing import Any

from django.contrib.auth.models import User
from django.forms import BaseForm
from django.http import HttpRequest
from django.utils import timezone

from projects.actions import refusals
from projects.actions.refusals import Refusal
from projects.actors import Actor
from projects.errors import DomainError, InvalidBrief
from projects.workflows.definition import InvalidWorkflow

ACTION = "request.refused"
# Who refuses these records them.
_RECORDED = (InvalidBrief, InvalidWorkflow)
_FIELDS, _ID_CHARS = 20, 64


def note_error(request: HttpRequest, error: DomainError) -> None:
    """Record that an action refused what a person asked for: its kind, as the sentence may quote what was sent."""
    if not isinstance(error, _RECORDED):
        _note(request, type(error).__name__, type(error).__name__)


def note_form(request: HttpRequest, form: BaseForm) -> None:
    """Record that a form was not taken: of each field that is wrong its name and the rules it breaks, no contents."""
    wrong = list(form.errors.as_data().items())[:_FIELDS]
    _note(request, "invalid_form", {name: sorted({one.code or "invalid" for one in errors}) for name, errors in wrong})


def is_valid(request: HttpRequest, form: BaseForm) -> bool:
    """Return whether a form may be taken; that it may not is recorded."""
    if form.is_valid():
        return True
    note_form(request, form)
    return False


def _note(request: HttpRequest, code: str, why: str | dict[str, Any]) -> None:
    user, match = request.user, request.resolver_match
    if not isinstance(user, User) or request.method in {"GET", "HEAD"}:
        return
    where = f"{(request.method or '')[:10]} {match.view_name if match else ''}"
    # Of an address its ids alone: some have a secret in them.
    about = {
        name: str(value)[:_ID_CHARS] for name, value in (match.kwargs if match else {}).items() if name.endswith("_id")
    }
    details = {"request": where, "code": code, "why": why, **about}
    refusal = Refusal(ACTION, f"person {user.pk}", f"{where} {code}", details)
    refusals.note(refusal, by=Actor.person(user), now=timezone.now())
