"""Who may do what, and the sentence when they may not."""

import pytest
from django.contrib.auth.models import AnonymousUser

from accounts.roles import RIGHTS, AccountRole, refusal, role_of
from tests.accounts.making import person
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
VIEWER, OPERATOR, ADMIN = AccountRole


@pytest.mark.parametrize("role", AccountRole)
def test_role_is_the_one_given(role: AccountRole) -> None:
    assert role_of(person(role)) == role
    assert RIGHTS[role]


def test_nobody_in_particular_is_a_viewer_and_a_superuser_an_admin() -> None:
    assert role_of(UserFactory()) == VIEWER
    assert role_of(UserFactory(is_superuser=True)) == ADMIN


def test_who_is_not_here_has_no_role() -> None:
    assert role_of(AnonymousUser()) is None
    assert refusal(AnonymousUser(), VIEWER) == "Sign in first."
    assert refusal(UserFactory(is_active=False, is_superuser=True), VIEWER) == "Your account is switched off."


@pytest.mark.parametrize("has", AccountRole)
@pytest.mark.parametrize("needs", AccountRole)
def test_each_role_has_the_rights_of_those_below(has: AccountRole, needs: AccountRole) -> None:
    order = list(AccountRole)
    why = refusal(person(has), needs)

    assert (why == "") == (order.index(has) >= order.index(needs))
    if why:
        assert why == f"Your role is {has.value}; this needs the role {needs.value}. An admin can change it."
