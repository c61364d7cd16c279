"""Roles of people, and keys of programs."""

from datetime import timedelta

import factory
from factory.django import DjangoModelFactory

from accounts.keys import new_key_text
from accounts.models import ApiKey, Member
from accounts.roles import AccountRole
from accounts.scopes import Scope
from tests.factories.common import NOW, UserFactory


class MemberFactory(DjangoModelFactory[Member]):
    """Somebody with a role, and the flags that go with it."""

    class Meta:
        model = Member

    role = AccountRole.VIEWER
    user = factory.SubFactory(
        UserFactory, is_superuser=factory.LazyAttribute(lambda o: o.factory_parent.role == AccountRole.ADMIN)
    )
    created_at = NOW


class ApiKeyFactory(DjangoModelFactory[ApiKey]):
    """A key whose text nobody has. Whoever has to show one makes it by the action: `tests.accounts.making.key_of`."""

    class Meta:
        model = ApiKey
        exclude = ("text",)

    text = factory.LazyFunction(new_key_text)
    owner = factory.SubFactory(UserFactory)
    created_by = factory.SelfAttribute("owner")
    name = factory.Sequence("program {}".format)
    prefix = factory.SelfAttribute("text.prefix")
    secret_hash = factory.SelfAttribute("text.digest")
    scopes = factory.LazyFunction(lambda: [Scope.PROJECTS_READ])
    created_at = NOW
    expires_at = NOW + timedelta(days=30)
