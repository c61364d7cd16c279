"""Signing in: password, second factor, link, lock-out; and what is written down of it."""

from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher, get_hasher, make_password
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import actions
from accounts.lock_outs import clear_lock_outs, lock_outs
from accounts.roles import AccountRole
from eklavya import settings as product
from eklavya.login_links import make_link
from projects.models import AuditLog
from tests.accounts.making import person
from tests.eklavya.test_csp import inline_parts
from tests.factories import NOW, PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
VIEWER, OPERATOR, ADMIN = AccountRole
LOGIN = "/login/"


def sign_in(client: Client, username: str, password: str = PASSWORD, **extra: Any) -> Any:
    return client.post(LOGIN, {"login": username, "password": password}, **extra)


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def trail() -> list[str]:
    return list(AuditLog.objects.filter(chain="account").order_by("seq").values_list("action", flat=True))


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))


@pytest.fixture
def asha() -> User:
    return person(OPERATOR, "asha")


@pytest.fixture
def secret(asha: User) -> str:
    """The secret of asha's authenticator app."""
    secret = generate_totp_secret()
    TOTP.activate(asha, secret)
    return secret


# -- password


def test_password_signs_in_and_it_is_written_down(client: Client, asha: User) -> None:
    answer = sign_in(client, "asha")

    assert (answer.status_code, answer["Location"], is_in(client)) == (302, "/", True)
    row = AuditLog.objects.get(action="account.signed_in")
    assert (row.actor_name, row.object_id) == ("asha", str(asha.pk))
    assert row.details == {"how": ["password"], "ip": "127.0.0.1"}


def test_signing_out_is_written_down(client: Client, asha: User) -> None:
    sign_in(client, "asha")

    answer = client.post("/logout/")

    assert (answer["Location"], is_in(client)) == (LOGIN, False)
    assert trail() == ["account.signed_in", "account.signed_out"]


def test_after_signing_in_one_is_where_one_wanted_to_be(client: Client, asha: User) -> None:
    wanted = client.get("/projects/?show=open")["Location"]

    answer = client.post(wanted, {"login": "asha", "password": PASSWORD, "next": "/projects/?show=open"})

    assert answer["Location"] == "/projects/?show=open"


@pytest.mark.parametrize("target", ["https://example.com/", "//example.com/", "javascript:alert(1)"])
def test_nobody_is_sent_elsewhere(client: Client, asha: User, target: str) -> None:
    answer = client.post(LOGIN, {"login": "asha", "password": PASSWORD, "next": target})

    assert answer["Location"] == "/"


def test_wrong_password_is_refused_alike_for_known_and_unknown(client: Client, asha: User) -> None:
    known, unknown = sign_in(client, "asha", "wrong"), sign_in(client, "hunter2", "wrong")

    for answer in (known, unknown):
        assert answer.status_code == 200
        assert "The username and/or password you specified are not correct." in answer.content.decode()
    rows = AuditLog.objects.filter(action="account.sign_in_failed").order_by("seq")
    # what is no name may be a password typed in the wrong field
    assert [row.details["username"] for row in rows] == ["asha", ""]


@pytest.mark.parametrize("name", ["\x00", "a" * 5_000, "'; DROP TABLE auth_user; --", "<b>"])
def test_odd_names_are_refused_without_an_error(client: Client, name: str) -> None:
    assert sign_in(client, name).status_code == 200


def test_new_passwords_are_kept_with_argon2_and_old_ones_move_there(client: Client) -> None:
    user = UserFactory(username="old", password=make_password(PASSWORD, hasher="pbkdf2_sha256"))

    sign_in(client, "old")

    user.refresh_from_db()
    assert is_in(client)
    assert user.password.startswith("argon2$argon2id$")
    # the tests' own hasher is this one, made cheap
    assert product.PASSWORD_HASHERS[0] == "django.contrib.auth.hashers.Argon2PasswordHasher"
    assert get_hasher().__class__.__bases__ == (Argon2PasswordHasher,)


def test_switched_off_account_does_not_sign_in(client: Client, asha: User) -> None:
    actions.switch_off(asha, by=person(ADMIN), now=NOW)

    answer = sign_in(client, "asha")

    assert not is_in(client)
    assert "switched off" in client.get(answer["Location"]).content.decode()


def test_switching_off_ends_the_session(client: Client, asha: User) -> None:
    sign_in(client, "asha")
    actions.switch_off(asha, by=person(ADMIN), now=NOW)

    assert client.get("/projects/")["Location"].startswith(LOGIN)


@pytest.mark.parametrize(
    "path", ["/signup/", "/account/signup/", "/accounts/signup/", "/account/email/", "/password/reset/"]
)
def test_nobody_signs_up_or_resets_by_mail(client: Client, path: str) -> None:
    assert client.post(path, {"username": "eve"}).status_code in {302, 404}
    assert client.get(path, follow=True).request["PATH_INFO"] in {path, LOGIN}
    assert not User.objects.filter(username="eve").exists()


# -- lock-out


def test_five_wrong_passwords_lock_the_guesser_out_and_it_is_written_down_once(client: Client, asha: User) -> None:
    answers = [sign_in(client, "asha", f"guess {n}").status_code for n in range(7)]

    assert answers == [200, 200, 200, 200, 429, 429, 429]
    locked = sign_in(client, "asha")  # the right one
    assert locked.status_code == 429
    assert "Too many wrong passwords" in locked.content.decode()
    assert sorted(trail()) == ["account.locked_out"] + ["account.sign_in_failed"] * 5
    assert AuditLog.objects.get(action="account.locked_out").details["username"] == "asha"


def test_other_ways_to_write_the_name_are_the_same_person(client: Client, asha: User) -> None:
    for name in ("asha", "Asha", "ASHA", "aSha", "AsHa"):
        sign_in(client, name, "guess")

    assert sign_in(client, "ashA").status_code == 429


def test_admin_sees_and_clears_a_lock_out(client: Client, asha: User) -> None:
    now = timezone.now()
    for n in range(5):
        assert lock_outs(now) == []
        sign_in(client, "Asha", f"guess {n}")

    (locked,) = lock_outs(timezone.now())
    assert (locked.username, locked.ip_address) == ("asha", "127.0.0.1")
    assert now < locked.ends_at < now + timedelta(minutes=16)
    assert lock_outs(locked.ends_at + timedelta(seconds=1)) == []
    clear_lock_outs(asha, by=person(ADMIN, "root"), now=NOW)
    clear_lock_outs(asha, by=User.objects.get(username="root"), now=NOW)
    assert sign_in(client, "asha").status_code == 302
    assert AuditLog.objects.get(action="account.unlocked").actor_name == "root"


def test_the_person_herself_gets_in_from_elsewhere(client: Client, asha: User) -> None:
    for n in range(5):
        sign_in(client, "asha", f"guess {n}")

    assert sign_in(Client(), "asha", REMOTE_ADDR="192.0.2.7").status_code == 302


# -- second factor


def test_second_factor_is_asked_for_and_signs_in(client: Client, secret: str) -> None:
    answer = sign_in(client, "asha")

    assert (answer["Location"], is_in(client)) == (reverse("mfa_authenticate"), False)
    assert client.get("/projects/")["Location"].startswith(LOGIN)
    client.post(answer["Location"], {"code": code_of(secret)})
    assert is_in(client)
    assert AuditLog.objects.get(action="account.signed_in").details["how"] == ["password", "totp"]


def test_wrong_code_does_not_sign_in(client: Client, secret: str) -> None:
    page = sign_in(client, "asha")["Location"]

    answer = client.post(page, {"code": "000000" if code_of(secret) != "000000" else "000001"})

    assert answer.status_code == 200
    assert not is_in(client)
    assert trail() == ["account.factor_failed"]


def test_code_works_once(client: Client, secret: str) -> None:
    code = code_of(secret)
    client.post(sign_in(client, "asha")["Location"], {"code": code})
    other = Client()

    other.post(sign_in(other, "asha")["Location"], {"code": code})

    assert is_in(client)
    assert not is_in(other)


def test_codes_cannot_be_guessed_for_long(client: Client, secret: str) -> None:
    page = sign_in(client, "asha")["Location"]
    good = code_of(secret)
    answers = [client.post(page, {"code": f"{n:06}"}) for n in range(11) if f"{n:06}" != good]

    assert "Too many failed login attempts" in answers[-1].content.decode()
    assert not is_in(client)


def test_recovery_code_signs_in_once(client: Client, asha: User, secret: str) -> None:
    code = RecoveryCodes.activate(asha).get_unused_codes()[0]
    other = Client()

    client.post(sign_in(client, "asha")["Location"], {"code": code})
    other.post(sign_in(other, "asha")["Location"], {"code": code})

    assert (is_in(client), is_in(other)) == (True, False)


def test_secrets_of_second_factors_are_encrypted(asha: User, secret: str) -> None:
    RecoveryCodes.activate(asha)
    stored = {row.type: row.data for row in Authenticator.objects.all()}

    assert secret not in str(stored["totp"])
    assert TOTP(Authenticator.objects.get(type="totp")).validate_code(code_of(secret))
    assert stored["recovery_codes"]["seed"].startswith("gAAAA")


def test_app_is_added_by_its_code_and_recovery_codes_are_shown_once(
    client: Client, asha: User, django_capture_on_commit_callbacks: Any
) -> None:
    sign_in(client, "asha")
    session = client.session
    (record,) = session[AUTHENTICATION_METHODS_SESSION_KEY]
    record["at"] -= 301
    session.save()
    page = client.get(reverse("mfa_activate_totp"))
    assert page.status_code == 302  # the password once more: it was typed more than five minutes ago
    client.post(page["Location"], {"password": PASSWORD})
    page = client.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    drawing = b64decode(page.context["totp_svg_data_uri"].partition("base64,")[2]).decode()
    assert 'fill="white"' in drawing  # a dark page would swallow it

    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})

    assert answer["Location"] == reverse("mfa_view_recovery_codes")
    first = client.get(answer["Location"]).content.decode()
    code = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()[0]
    assert code in first
    assert code not in client.get(answer["Location"]).content.decode()
    assert trail()[-2:] == ["account.factor_added", "account.factor_added"]


def test_who_has_just_typed_the_password_is_not_asked_for_it_again(client: Client, asha: User) -> None:
    sign_in(client, "asha")
    assert client.get(reverse("mfa_add_webauthn")).status_code == 200
    other = Client()
    other.force_login(asha)  # a session without a word of how it began
    assert other.get(reverse("mfa_add_webauthn")).status_code == 302


def test_app_is_removed_and_it_is_written_down(client: Client, asha: User, secret: str) -> None:
    client.force_login(asha)
    confirm = client.get(reverse("mfa_deactivate_totp"))["Location"]
    client.post(confirm, {"code": code_of(secret), "password": PASSWORD})
    client.post(reverse("mfa_deactivate_totp"))

    assert not Authenticator.objects.filter(type="totp").exists()
    assert trail()[-1] == "account.factor_removed"


def test_passkey_is_offered_before_signing_in(client: Client) -> None:
    answer = client.get(reverse("mfa_login_webauthn"), headers={"X-Requested-With": "XMLHttpRequest"})

    assert len(answer.json()["request_options"]["publicKey"]["challenge"]) > 20
    assert "Sign in with a passkey" in client.get(LOGIN).content.decode()


@pytest.mark.parametrize(
    "credential",
    ['{"id": "x"}', "[]", "7", "null", "x", "", '{"id": "QQ", "rawId": "QQ", "type": "public-key", "response": {}}'],
)
def test_made_up_passkey_does_not_sign_in(client: Client, asha: User, credential: str) -> None:
    answer = client.post(reverse("mfa_login_webauthn"), {"credential": credential})

    assert answer["Location"] == LOGIN
    assert not is_in(client)


# -- link


def test_link_asks_for_the_second_factor_and_is_then_used_up(client: Client, asha: User, secret: str) -> None:
    link = make_link(asha).removeprefix(settings.EKLAVYA_PUBLIC_URL)

    answer = client.post(link)
    assert (answer["Location"], is_in(client)) == (reverse("mfa_authenticate"), False)
    client.post(answer["Location"], {"code": code_of(secret)})

    assert is_in(client)
    assert Client().post(link).status_code == 410
    assert AuditLog.objects.get(action="account.signed_in").details["how"] == ["totp"]


def test_link_gets_past_a_lock_out(client: Client, asha: User) -> None:
    for n in range(5):
        sign_in(client, "asha", f"guess {n}")

    client.post(make_link(asha).removeprefix(settings.EKLAVYA_PUBLIC_URL))

    assert is_in(client)
    assert AuditLog.objects.get(action="account.signed_in").details["how"] == ["link"]


def test_invited_person_sets_a_password(client: Client) -> None:
    user = actions.add_person("ben", email="", role=VIEWER, by=None, now=NOW)
    client.post(make_link(user).removeprefix(settings.EKLAVYA_PUBLIC_URL))

    page = client.get(reverse("account_change_password"))
    assert page["Location"] == reverse("account_set_password")
    client.post(page["Location"], {"password1": "another long one 7", "password2": "another long one 7"})

    user.refresh_from_db()
    assert user.has_usable_password()
    assert trail()[-1] == "account.password_changed"


# -- Django's admin


def test_admin_asks_at_the_portal(client: Client, asha: User) -> None:
    page = client.get("/admin/", follow=True)
    assert page.request["PATH_INFO"] == LOGIN
    assert client.post("/admin/login/", {"username": "asha", "password": PASSWORD})["Location"].startswith(LOGIN)
    assert not is_in(client)


@pytest.mark.parametrize("role", [VIEWER, OPERATOR])
def test_admin_refuses_others_in_words(client: Client, role: AccountRole) -> None:
    client.force_login(person(role))

    for path in ("/admin/", "/admin/projects/project/", "/admin/login/", "/admin/auth/user/"):
        assert client.get(path).status_code == 403
    assert "this needs the role admin" in client.get("/admin/").content.decode()


def test_password_is_not_changed_past_the_portal(client: Client) -> None:
    client.force_login(person(ADMIN))

    assert client.get("/admin/password_change/")["Location"] == reverse("account_change_password")


# -- pages


def test_pages_of_the_account_have_nothing_inline(client: Client, asha: User) -> None:
    sign_in(client, "asha")
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    names = ["mfa_index", "mfa_activate_totp", "mfa_add_webauthn", "mfa_list_webauthn", "account_change_password"]
    names += ["account_reauthenticate", "account_logout", "account_inactive"]

    for name in names:
        page = client.get(reverse(name))
        assert page.status_code == 200, name
        assert inline_parts(page.content.decode()) == [], name


def test_page_of_the_second_factor_has_nothing_inline(client: Client, secret: str) -> None:
    page = client.get(sign_in(client, "asha")["Location"])

    assert page.status_code == 200
    assert inline_parts(page.content.decode()) == []


def test_nothing_is_signed_in_from_another_site(asha: User) -> None:
    client = Client(enforce_csrf_checks=True)

    assert sign_in(client, "asha").status_code == 403
