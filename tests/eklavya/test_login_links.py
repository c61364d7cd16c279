"""Signing in by a link that works once."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.utils.http import base36_to_int, int_to_base36

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


@pytest.mark.parametrize("token", ["x", "a-b-c", "zzzzzzzzzzzz-1-x", "é-1-x", "W10:1tX2Yz:" + "A" * 43])
def test_a_made_up_link_is_refused(client: Client, token: str) -> None:
    assert client.post(f"/login/link/{token}/").status_code == 410


def test_a_link_for_one_person_or_time_is_none_for_another(user: User) -> None:
    other = UserFactory(username="ben")
    pk, ends, signature = make_link(user).rstrip("/").rsplit("/", 1)[1].split("-", 2)

    assert find_user(f"{pk}-{ends}-{signature}") == user
    assert find_user(f"{int_to_base36(other.pk)}-{ends}-{signature}") is None
    assert find_user(f"{pk}-{int_to_base36(base36_to_int(ends) + 1)}-{signature}") is None
    assert find_user(f"{pk}-{ends}-{signature[:-1]}") is None
    assert find_user(f"{pk}-{ends}-") is None


def test_the_link_outlives_a_new_secret_key(user: User) -> None:
    token = make_link(user).rstrip("/").rsplit("/", 1)[1]

    with override_settings(SECRET_KEY="n" * 50, SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert find_user(token) == user
    with override_settings(SECRET_KEY="n" * 50, SECRET_KEY_FALLBACKS=[]):
        assert find_user(token) is None


def test_the_link_fits_into_a_line_of_a_terminal(user: User) -> None:
    assert len("  Open     " + make_link(user)) <= 80


def test_the_command_prints_a_link_alone_on_stdout(client: Client, user: User) -> None:
    out, err = io.StringIO(), io.StringIO()
    call_command("login_link", stdout=out, stderr=err)

    assert client.post(path_of(out.getvalue().strip())).url == "/"
    assert client.session["_auth_user_id"] == str(user.pk)
    assert err.getvalue() == "signs asha in, once, within 15 minutes\n"


def test_the_command_knows_whom_it_does_not_know(user: User) -> None:
    with pytest.raises(CommandError, match="no active account “ben”; there are: asha"):
        call_command("login_link", "ben")


def test_the_sign_in_page_names_what_gives_a_link(client: Client) -> None:
    page = client.get("/login/").content.decode()
    assert ".venv/bin/python manage.py login_link" in page
    assert "make run" in page


def test_the_dead_links_page_names_what_gives_a_new_one(client: Client) -> None:
    page = client.get("/login/link/x/").content.decode()
    assert ".venv/bin/python manage.py login_link" in page
    assert "make run" in page


def test_without_a_server_a_command_is_one_line(tmp_path: Path) -> None:
    ours = ("DATABASE_", "DJANGO_", "EKLAVYA_")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "manage.py", "login_link"],
        check=False,
        cwd=settings.BASE_DIR,
        env=environment | {"EKLAVYA_VAR": str(tmp_path), "EKLAVYA_ENV_FILE": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"eklavya: the database of {tmp_path} is stopped: start it with `make run`, and try again beside it\n"
    )
