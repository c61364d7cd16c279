"""People of each role, and keys, for tests."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User

from accounts import actions
from accounts.actions import NewKey
from accounts.models import ApiKey
from accounts.roles import AccountRole
from tests.factories import NOW, MemberFactory


def person(role: AccountRole, username: str = "") -> User:
    """Somebody with this role, signing in with the factories' PASSWORD."""
    return MemberFactory(role=role, user__username=username or f"{role.value}-asha").user


def key_of(
    owner: User, *scopes: str, project_id: UUID | None = None, days: int | None = 30, now: datetime | None = None
) -> tuple[ApiKey, str]:
    """A key of somebody, and its text."""
    wanted = NewKey("tests", scopes, project_id, days)
    return actions.create_key(wanted, owner=owner, by=owner, now=now or NOW)


def bearer(text: str) -> dict[str, Any]:
    """The headers of a request that carries the key."""
    return {"authorization": f"Bearer {text}"}
