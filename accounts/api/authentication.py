"""Programs sign in with `Authorization: Bearer <API key>`."""

from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts import actions
from accounts.errors import KeyRefused
from accounts.models import ApiKey
from accounts.web import sent_key


class ApiKeyAuthentication(BaseAuthentication):
    """Gives the key's owner as the user and the key as `request.auth`."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        try:
            key = actions.use_key(sent_key(header), now=timezone.now())
        except KeyRefused as error:
            raise AuthenticationFailed(str(error)) from error
        return key.owner, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Eklavya API"'


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself
    """The same in the API's schema."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "ek_live_<8>_<43>"}
