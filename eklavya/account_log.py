"""Writing down what happens to accounts, on the account's chain of the audit log.

Two sources: the actions of `accounts` (a recorder, inside their transactions), and the libraries that sign people in,
whose only way to tell are Django's signals.
"""

from typing import Any

from allauth.account import signals as account
from allauth.account.authentication import get_authentication_records
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out, user_login_failed
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone

from accounts import records
from accounts.records import Record
from projects import audit
from projects.actors import Actor

NOBODY = Actor.system("sign-in")


def connect() -> None:
    """Register everything. Idempotent."""
    records.register(_write_down)
    for signal, receiver in (
        (account.user_logged_in, _signed_in),
        (user_logged_out, _signed_out),
        (user_login_failed, _sign_in_failed),
        (user_locked_out, _locked_out),
        (account.password_set, _password_changed),
        (account.password_changed, _password_changed),
        (mfa.authenticator_added, _factor_added),
        (mfa.authenticator_removed, _factor_removed),
        (mfa.authenticator_reset, _factor_reset),
        (mfa.authentication_failed, _factor_failed),
    ):
        signal.connect(receiver, dispatch_uid=f"account_log.{receiver.__name__}")


def _write_down(record: Record) -> None:
    by = Actor.person(record.by) if record.by else Actor.system("accounts")
    with audit.journal(by=by, now=record.now) as journal:
        journal.add(record.action, obj=record.obj, details=record.details)


def _add(action: str, request: HttpRequest | None, *, by: Actor, obj: Model | None = None, **details: Any) -> None:
    details["ip"] = request.META.get("REMOTE_ADDR", "") if request else ""
    with audit.journal(by=by, now=timezone.now()) as journal:
        journal.add(action, obj=obj, details=details)


def _signed_in(request: HttpRequest, user: User, **_: Any) -> None:
    how = [record.get("type") or record["method"] for record in get_authentication_records(request, user)]
    _add("account.signed_in", request, by=Actor.person(user), obj=user, how=how or ["link"])


def _signed_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        _add("account.signed_out", request, by=Actor.person(user), obj=user)


def _sign_in_failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Once per guess that counted. What was typed as a name is kept only where it is one: it may be a password."""
    if getattr(request, "axes_locked_out", False) and getattr(request, "axes_failures_since_start", None) is None:
        return
    user = _named(credentials)
    _add("account.sign_in_failed", request, by=NOBODY, obj=user, username=user.username if user else "")


def _locked_out(request: HttpRequest, username: str | None = None, **_: Any) -> None:
    """Once per lock-out: axes tells each further try too."""
    if getattr(request, "axes_failures_since_start", None) != settings.AXES_FAILURE_LIMIT:
        return
    user = _named({"username": username})
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    name = user.username if user else ""
    _add("account.locked_out", request, by=NOBODY, obj=user, username=name, minutes=minutes)


def _named(credentials: dict[str, Any]) -> User | None:
    name = str(credentials.get("username") or "").replace("\x00", "")[:150]
    return User.objects.filter(username__iexact=name).first() if name else None


def _password_changed(request: HttpRequest, user: User, **_: Any) -> None:
    _add("account.password_changed", request, by=Actor.person(user), obj=user)


def _factor_added(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _add("account.factor_added", request, by=Actor.person(user), obj=user, factor=authenticator.type)


def _factor_removed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _add("account.factor_removed", request, by=Actor.person(user), obj=user, factor=authenticator.type)


def _factor_reset(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _add("account.factor_reset", request, by=Actor.person(user), obj=user, factor=authenticator.type)


def _factor_failed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _add("account.factor_failed", request, by=NOBODY, obj=user, username=user.username, factor=authenticator.type)
