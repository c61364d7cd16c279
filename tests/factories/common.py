"""What all factories share: the time, the actor, a user."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

import factory
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db.models import Max
from factory.django import DjangoModelFactory

from projects.actors import Actor

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TESTER = Actor.system("tests")
COMMIT = "c0ffee" + "0" * 34
MODEL = "claude-sonnet-4-5"
PASSWORD = "a long enough password"
WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4


@cache
def _hashed(password: str) -> str:
    """Hashing is slow by design: once is enough."""
    return make_password(password)


class UserFactory(DjangoModelFactory[User]):
    """A person who signs in with PASSWORD; `is_superuser=True` for Django's admin."""

    class Meta:
        model = get_user_model()
        skip_postgeneration_save = True

    username = factory.Sequence("person{}".format)
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.com")
    is_staff = factory.SelfAttribute("is_superuser")
    is_superuser = False
    password = factory.LazyFunction(lambda: _hashed(PASSWORD))


def next_number(rows: Any, field: str) -> int:
    return (rows.aggregate(newest=Max(field))["newest"] or 0) + 1
