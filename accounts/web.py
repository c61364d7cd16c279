"""Keys in plain requests: what Git, curl and downloads send instead of a session."""

import base64
import binascii
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts import actions
from accounts.errors import KeyRefused
from accounts.models import ApiKey
from accounts.scopes import Scope

View = Callable[..., Any]
CHALLENGE = 'Basic realm="Eklavya: any name, an API key as the password", charset="UTF-8"'


def sent_key(authorization: str) -> str:
    """Return the key in an Authorization header: a Bearer's, or a Basic's password. Empty where there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        _, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return password


def key_required(scope: Scope) -> Callable[[View], View]:
    """Let a view in by key alone; with its `project_id`, by a key for that project. For clients without sessions."""

    def decorator(view: View) -> View:
        @login_not_required
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            refused = _refusal(request, scope, kwargs.get("project_id"))
            return refused if refused is not None else view(request, *args, **kwargs)

        return wrapped

    return decorator


def session_or_key(scope: Scope) -> Callable[[View], View]:
    """Let a view in by session, or where a key is sent by that."""

    def decorator(view: View) -> View:
        @login_not_required
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.headers.get("Authorization"):
                refused = _refusal(request, scope, kwargs.get("project_id"))
                return refused if refused is not None else view(request, *args, **kwargs)
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            return view(request, *args, **kwargs)

        return wrapped

    return decorator


def _refusal(request: HttpRequest, scope: Scope, project_id: object) -> HttpResponse | None:
    """Take the request's key; return the answer when it does not open this."""
    try:
        key = actions.use_key(sent_key(request.headers.get("Authorization", "")), now=timezone.now())
    except KeyRefused as error:
        answer = _said(str(error), 401)
        answer["WWW-Authenticate"] = CHALLENGE
        return answer
    if not key.may(scope, project_id):
        return _said(why_not(key, scope), 403)
    request.user = key.owner
    return None


def why_not(key: ApiKey, scope: str) -> str:
    """Return why a key that is fine does not open this."""
    if scope not in key.scopes:
        return f"This API key lacks the scope {scope}."
    return "This API key is for another project."


def _said(sentence: str, status: int) -> HttpResponse:
    return HttpResponse(sentence + "\n", status=status, content_type="text/plain; charset=utf-8")
