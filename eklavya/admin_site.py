"""Django's admin behind the portal's own sign-in: one password, one second factor, one lock-out for both."""

from functools import wraps
from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib.admin import AdminSite
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.decorators import method_decorator

from accounts.roles import AccountRole, refusal


class PortalAdminSite(AdminSite):
    """Only for admins; others are told so instead of being asked to sign in again."""

    @method_decorator(login_not_required)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send to the portal's sign-in, and on from there."""
        inside: HttpResponse = secure_admin_login(super().login)(request, extra_context)
        return inside

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Refuse who is signed in and no admin, in a sentence."""

        inner = super().admin_view(view, cacheable)

        @wraps(inner)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.user.is_authenticated and not self.has_permission(request):
                raise PermissionDenied(refusal(request.user, AccountRole.ADMIN))
            answer: HttpResponse = inner(request, *args, **kwargs)
            return answer

        return guarded

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Send to the portal's page, which asks for the second factor and leaves a record."""
        return redirect("account_change_password")
