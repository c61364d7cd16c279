"""Who may use an address of the API."""

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission

from accounts.models import ApiKey
from accounts.web import why_not

if TYPE_CHECKING:  # at run time REST framework's views import this module
    from rest_framework.request import Request
    from rest_framework.views import APIView


class HasScope(BasePermission):
    """Whoever is signed in may look, as people may; a key needs the scope that the view names for the method.

    A view without `scopes` for a method lets nobody in. What a person's role allows is asked by each writing view.
    """

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        scopes = getattr(view, "scopes", {})
        scope = scopes.get(request.method) or (scopes.get("GET") if request.method == "HEAD" else None)
        if scope is None or not request.user.is_authenticated:
            return False
        if not isinstance(request.auth, ApiKey):
            return True
        # A key for one project sees lists cut to it (`of_key`), and the addresses of no other.
        if request.auth.may(scope, view.kwargs.get("project_id", request.auth.project_id)):
            return True
        self.message = why_not(request.auth, scope)
        return False
