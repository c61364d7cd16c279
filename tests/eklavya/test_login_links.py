"""Signing in by a link that works once."""

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings

from eklavya.login_links import find_user, make_link
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    user: User = UserFactory(username="asha", is_superuser=True)
    return user


def path_of(link: str) -> str:
    return link.removeprefix(settings.EKLAVYA_PUBLIC_URL)


def test_opening_the_link_does_not_use_it_up(client: Client, user: User) -> None:
    link = path_of(make_link(user))

    pages = [client.get(link) for _ in range(3)]

    assert {page.status_code for page in pages} == {200}
    assert "_auth_user_id" not in client.session


def test_pressing_the_button_signs_in(client: Client, user: User) -> None:
    response = client.post(path_of(make_link(user)))

    assert response.url == "/"
    assert client.session["_auth_user_id"] == str(user.pk)


def test_the_link_works_once(client: Client, user: User) -> None:
    link = path_of(make_link(user))
    client.post(link)

    second = Client().post(link)

    assert second.status_code == 410
    assert b"does not work any more" in second.content


def test_a_new_password_ends_the_link(user: User) -> None:
    token = make_link(user).rstrip("/").rsplit("/", 1)[1]
    user.set_password("another long password")
    user.save(update_fields=["password"])

    assert find_user(token) is None


def test_the_link_ends_for_a_person_who_is_switched_off(user: User) -> None:
    token = make_link(user).rstrip("/").rsplit("/", 1)[1]
    User.objects.update(is_active=False)

    assert find_user(token) is None


@override_settings(LOGIN_LINK_MINUTES=-1)  # as if the time had passed
def test_an_old_link_is_refused(client: Client, user: User) -> None:
    assert client.get(path_of(make_link(user))).status_code == 410


@pytest.mark.parametrize("token", ["x", "a:b:c", "W10:1tX2Yz:" + "A" * 43])
def test_a_made_up_link_is_refused(client: Client, token: str) -> None:
    assert client.post(f"/login/link/{token}/").status_code == 410
