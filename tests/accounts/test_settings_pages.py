"""The pages where admins look after people and keys, and the same in Django's admin."""

import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import actions
from accounts.models import ApiKey, Member
from accounts.roles import AccountRole, role_of
from projects.models import AuditLog
from tests.accounts.making import bearer, key_of, person
from tests.eklavya.test_csp import inline_parts
from tests.factories import ProjectFactory

pytestmark = pytest.mark.django_db
VIEWER, OPERATOR, ADMIN = AccountRole
PEOPLE, KEYS = "/settings/people/", "/settings/keys/"


@pytest.fixture
def root() -> User:
    return person(ADMIN, "root")


@pytest.fixture
def admin_in(client: Client, root: User) -> Client:
    client.force_login(root)
    return client


def shown(answer: Any) -> str:
    page: str = answer.content.decode()
    assert inline_parts(page) == []
    return page


def test_invited_person_gets_a_link_that_signs_in_once(admin_in: Client) -> None:
    page = shown(admin_in.post(PEOPLE, {"username": "asha", "email": "", "role": "operator"}))

    link = re.search(r"/login/link/[^\"<]+", page)
    assert link
    assert role_of(User.objects.get(username="asha")) == OPERATOR
    visitor = Client()
    assert visitor.post(link[0])["Location"] == "/"
    assert visitor.session["_auth_user_id"] == str(User.objects.get(username="asha").pk)
    assert link[0] not in shown(admin_in.get(PEOPLE))


def test_unusable_invitation_is_refused_where_it_was_typed(admin_in: Client) -> None:
    answer = admin_in.post(PEOPLE, {"username": "root", "role": "viewer"})

    assert answer.status_code == 422
    assert "already somebody called" in shown(answer)


def test_role_and_account_are_changed(admin_in: Client) -> None:
    user = person(VIEWER, "asha")

    admin_in.post(f"{PEOPLE}{user.pk}/role/", {"role": "operator"})
    assert role_of(User.objects.get(pk=user.pk)) == OPERATOR
    admin_in.post(f"{PEOPLE}{user.pk}/off/")
    assert not User.objects.get(pk=user.pk).is_active
    assert "Switched off" in shown(admin_in.get(PEOPLE))
    admin_in.post(f"{PEOPLE}{user.pk}/on/")
    assert User.objects.get(pk=user.pk).is_active


def test_last_admin_is_told_why_they_stay(admin_in: Client, root: User) -> None:
    answer = admin_in.post(f"{PEOPLE}{root.pk}/role/", {"role": "viewer"}, follow=True)

    assert "This is the last admin." in shown(answer)
    assert role_of(User.objects.get(pk=root.pk)) == ADMIN


def test_lock_out_is_shown_and_cleared(admin_in: Client) -> None:
    user = person(OPERATOR, "asha")
    for _ in range(5):
        Client().post("/login/", {"login": "asha", "password": "wrong"})

    assert "Locked out" in shown(admin_in.get(PEOPLE))
    admin_in.post(f"{PEOPLE}{user.pk}/unlock/")
    assert "Locked out" not in shown(admin_in.get(PEOPLE))
    assert AuditLog.objects.filter(action="account.unlocked").exists()


def test_key_is_shown_once_and_works(admin_in: Client, root: User) -> None:
    project = ProjectFactory()
    data = {"name": "ci", "owner": root.pk, "project": project.pk, "days": "30", "scopes": ["projects:read"]}

    page = shown(admin_in.post(KEYS, data))

    text = re.search(r"ek_live_[a-z0-9]{8}_[\w-]{43}", page)
    assert text
    assert Client(headers=bearer(text[0])).get(f"/api/v1/projects/{project.pk}/").status_code == 200
    assert text[0] not in shown(admin_in.get(KEYS))
    key = ApiKey.objects.get()
    assert (key.project_id, key.owner, (key.expires_at - key.created_at).days) == (project.pk, root, 30)


@pytest.mark.parametrize(
    "wrong", [{"scopes": []}, {"scopes": ["root"]}, {"owner": 0}, {"days": "7"}, {"name": ""}, {"project": "x"}]
)
def test_unusable_key_is_refused_where_it_was_typed(admin_in: Client, root: User, wrong: dict[str, Any]) -> None:
    data = {"name": "ci", "owner": root.pk, "days": "30", "scopes": ["projects:read"]} | wrong

    answer = admin_in.post(KEYS, data)

    assert answer.status_code == 422
    assert not ApiKey.objects.exists()
    assert "field__error" in shown(answer)


def test_key_is_revoked(admin_in: Client, root: User) -> None:
    key, _ = key_of(root, "projects:read", now=timezone.now())

    admin_in.post(f"{KEYS}{key.pk}/revoke/")

    key.refresh_from_db()
    assert key.revoked_at is not None
    assert "Revoked" in shown(admin_in.get(KEYS))


@pytest.mark.parametrize("role", [VIEWER, OPERATOR])
def test_others_are_refused_in_words(client: Client, root: User, role: AccountRole) -> None:
    client.force_login(person(role))

    for path in (PEOPLE, KEYS):
        assert client.get(path).status_code == 403
        assert "this needs the role admin" in client.post(path, {}).content.decode()
    assert client.post(f"{PEOPLE}{root.pk}/off/").status_code == 403
    assert PEOPLE not in client.get(reverse("mfa_index")).content.decode()


def test_missing_rows_are_not_found(admin_in: Client) -> None:
    assert admin_in.post(f"{PEOPLE}0/off/").status_code == 404
    assert admin_in.post(f"{KEYS}0/revoke/").status_code == 404


# -- Django's admin


def act(client: Client, model: type[Any], action: str, row: Any) -> list[str]:
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    answer = client.post(page, {"action": action, "_selected_action": [row.pk]}, follow=True)
    return [str(message) for message in answer.context["messages"]]


def test_admin_changes_people_by_the_same_actions(admin_in: Client, root: User) -> None:
    user = person(VIEWER)

    assert act(admin_in, User, "make_operator", user) == ["Done for 1."]
    assert role_of(User.objects.get(pk=user.pk)) == OPERATOR
    assert AuditLog.objects.get(action="person.role_changed").actor_name == "root"
    assert act(admin_in, User, "switch_off", user) == ["Done for 1."]
    assert act(admin_in, User, "switch_on", user) == ["Done for 1."]
    assert act(admin_in, User, "make_viewer", root)[0].startswith("root: This is the last admin.")


def test_admin_revokes_keys(admin_in: Client, root: User) -> None:
    key, _ = key_of(root, "projects:read", now=timezone.now())

    assert act(admin_in, ApiKey, "revoke", key) == ["Done for 1."]
    assert ApiKey.objects.get().revoked_at is not None


@pytest.mark.parametrize("model", [User, Member, ApiKey, Authenticator])
def test_admin_shows_no_secret_and_no_form(admin_in: Client, root: User, model: type[Any]) -> None:
    key, _ = key_of(root, "projects:read", now=timezone.now())
    factor = TOTP.activate(root, generate_totp_secret()).instance
    root.set_password("a password of some length")
    root.save()
    admin_in.force_login(root)
    row = model.objects.first()
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"

    for path in (reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[row.pk])):
        page = admin_in.get(path).content.decode()
        for secret in (key.secret_hash, factor.data["secret"], root.password):
            assert secret not in page
    assert admin_in.get(reverse(f"{name}_add")).status_code == 403
    assert admin_in.post(reverse(f"{name}_change", args=[row.pk]), {"is_superuser": "on"}).status_code == 403
    assert admin_in.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def test_groups_decide_nothing() -> None:
    assert not site.is_registered(Group)


def test_links_of_a_closed_account_end(admin_in: Client, root: User) -> None:
    page = admin_in.post(PEOPLE, {"username": "asha", "role": "viewer"}).content.decode()
    link = re.search(r"/login/link/[^\"<]+", page)
    assert link
    actions.switch_off(User.objects.get(username="asha"), by=root, now=timezone.now())

    assert Client().post(link[0]).status_code == 410
