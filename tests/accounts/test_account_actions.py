"""People and keys: made, changed, ended, and each of it recorded."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from accounts import actions, records
from accounts.actions import NewKey
from accounts.errors import InvalidKey, InvalidPerson, KeyRefused, LastAdmin
from accounts.keys import new_key_text, parse
from accounts.models import ApiKey, Member
from accounts.roles import AccountRole, role_of
from projects.models import AuditLog
from tests.accounts.making import key_of, person
from tests.factories import NOW, UserFactory

pytestmark = pytest.mark.django_db
VIEWER, OPERATOR, ADMIN = AccountRole


@pytest.fixture
def admin() -> User:
    return person(ADMIN, "root")


def last_record() -> AuditLog:
    return AuditLog.objects.filter(chain="account").latest("seq")


# -- people


def test_person_is_added_without_a_password_and_recorded(admin: User) -> None:
    user = actions.add_person("asha", email="asha@example.com", role=OPERATOR, by=admin, now=NOW)

    assert (role_of(user), user.has_usable_password(), user.member.invited_by) == (OPERATOR, False, admin)
    row = last_record()
    assert (row.action, row.actor_name, row.object_id) == ("person.added", "root", str(user.pk))
    assert row.details == {"username": "asha", "role": "operator"}


@pytest.mark.parametrize(
    ("username", "email", "why"),
    [
        ("Root", "", "already somebody called"),
        ("", "", "valid username"),
        ("a b", "", "valid username"),
        ("x" * 151, "", "1 to 150"),
        ("asha", "nowhere", "valid email"),
    ],
)
def test_unusable_person_is_refused_in_words(admin: User, username: str, email: str, why: str) -> None:
    with pytest.raises(InvalidPerson, match=why):
        actions.add_person(username, email=email, role=VIEWER, by=admin, now=NOW)
    assert User.objects.count() == 1
    assert not AuditLog.objects.exists()


def test_new_role_is_recorded_with_the_old_one_and_moves_the_flags(admin: User) -> None:
    user = person(VIEWER)

    actions.set_role(user, ADMIN, by=admin, now=NOW)

    user = User.objects.get(pk=user.pk)
    assert (role_of(user), user.is_staff, user.is_superuser) == (ADMIN, True, True)
    assert last_record().details == {"username": user.username, "from": "viewer", "to": "admin"}
    actions.set_role(user, OPERATOR, by=admin, now=NOW)
    user = User.objects.get(pk=user.pk)
    assert (role_of(user), user.is_staff, user.is_superuser) == (OPERATOR, False, False)


def test_same_role_again_is_no_news(admin: User) -> None:
    actions.set_role(admin, ADMIN, by=admin, now=NOW)

    assert not AuditLog.objects.exists()


def test_superuser_without_a_row_is_lowered(admin: User) -> None:
    other = UserFactory(is_superuser=True)

    actions.set_role(other, VIEWER, by=admin, now=NOW)

    assert role_of(User.objects.get(pk=other.pk)) == VIEWER
    assert last_record().details["from"] == "admin"


def test_last_admin_stays(admin: User) -> None:
    UserFactory(is_superuser=True, is_active=False)  # who is switched off helps nobody

    with pytest.raises(LastAdmin):
        actions.set_role(admin, VIEWER, by=admin, now=NOW)
    with pytest.raises(LastAdmin):
        actions.switch_off(admin, by=admin, now=NOW)
    assert role_of(User.objects.get(pk=admin.pk)) == ADMIN


def test_person_is_switched_off_and_on(admin: User) -> None:
    user = person(OPERATOR)

    actions.switch_off(user, by=admin, now=NOW)
    actions.switch_off(user, by=admin, now=NOW)
    assert role_of(User.objects.get(pk=user.pk)) is None
    actions.switch_on(user, by=admin, now=NOW)
    assert role_of(User.objects.get(pk=user.pk)) == OPERATOR
    assert list(AuditLog.objects.order_by("seq").values_list("action", flat=True)) == [
        "person.switched_off",
        "person.switched_on",
    ]


def test_database_knows_three_roles() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Member.objects.create(user=UserFactory(), role="king", created_at=NOW)


def test_nothing_happens_where_nobody_records(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_recorders", [])

    with pytest.raises(RuntimeError, match="No recorder"):
        actions.add_person("asha", email="", role=VIEWER, by=admin, now=NOW)
    assert not User.objects.filter(username="asha").exists()


# -- keys


def test_key_has_its_form_and_only_its_hash_is_kept(admin: User) -> None:
    key, text = key_of(admin, "projects:read")

    given = parse(text)
    assert given is not None
    assert (given.prefix, len(given.secret), str(given)) == (key.prefix, 43, text)
    assert given.secret not in repr(given)
    stored = str(ApiKey.objects.filter(pk=key.pk).values().get())
    assert given.secret not in stored
    row = last_record()
    assert (row.action, row.details["scopes"], row.details["owner"]) == ("api_key.created", ["projects:read"], "root")
    assert given.secret not in str(row.details)
    assert key.secret_hash not in str(row.details)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (NewKey("", ["projects:read"]), "name"),
        (NewKey("x" * 101, ["projects:read"]), "name"),
        (NewKey("ci", []), "at least one scope"),
        (NewKey("ci", ["projects:read", "root"]), "at least one scope"),
        (NewKey("ci", ["projects:read"], days=0), "1 to 3650 days"),
        (NewKey("ci", ["projects:read"], days=-1), "1 to 3650 days"),
        (NewKey("ci", ["projects:read"], days=9_999), "1 to 3650 days"),
    ],
)
def test_unusable_key_is_refused_in_words(admin: User, wanted: NewKey, why: str) -> None:
    with pytest.raises(InvalidKey, match=why):
        actions.create_key(wanted, owner=admin, by=admin, now=NOW)


def test_nobody_gets_a_key_for_a_closed_account(admin: User) -> None:
    with pytest.raises(InvalidKey, match="switched off"):
        actions.create_key(NewKey("ci", ["projects:read"]), owner=UserFactory(is_active=False), by=admin, now=NOW)


def test_database_demands_scopes_and_a_life(admin: User) -> None:
    common = {"owner": admin, "name": "x", "prefix": "abcdefgh", "secret_hash": "0" * 64, "created_at": NOW}
    for wrong in ({"scopes": []}, {"scopes": ["projects:read"], "expires_at": NOW}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.create(**common, **wrong)


def test_use_is_noted_once_a_minute(admin: User) -> None:
    key, text = key_of(admin, "projects:read")

    for seconds, noted in ((0, 0), (59, 0), (61, 61)):
        actions.use_key(text, now=NOW + timedelta(seconds=seconds))
        key.refresh_from_db()
        assert key.last_used_at == NOW + timedelta(seconds=noted)


def test_unknown_prefix_and_wrong_secret_get_the_same_answer(admin: User) -> None:
    key, text = key_of(admin, "projects:read")
    wrong = [str(new_key_text()), text[:-43] + "A" * 43, "", "Bearer", text + "A", text.upper()]

    for guess in wrong:
        with pytest.raises(KeyRefused, match="is unknown"):
            actions.use_key(guess, now=NOW)
    key.refresh_from_db()
    assert key.last_used_at is None


def test_key_ends_by_time_by_hand_and_with_its_owner(admin: User) -> None:
    user = person(OPERATOR)
    late = key_of(user, "projects:read", days=1)[1]
    revoked, gone = key_of(user, "projects:read")
    fine = key_of(user, "projects:read", days=None)[1]
    actions.revoke_key(revoked, by=admin, now=NOW)
    actions.revoke_key(revoked, by=admin, now=NOW + timedelta(days=1))

    assert actions.use_key(late, now=NOW + timedelta(hours=23)).owner == user
    with pytest.raises(KeyRefused, match="expired"):
        actions.use_key(late, now=NOW + timedelta(days=1))
    with pytest.raises(KeyRefused, match="revoked"):
        actions.use_key(gone, now=NOW)
    assert AuditLog.objects.filter(action="api_key.revoked").count() == 1
    actions.switch_off(user, by=admin, now=NOW)
    with pytest.raises(KeyRefused, match="switched off"):
        actions.use_key(fine, now=NOW)


def test_key_of_a_project_is_for_that_project(admin: User) -> None:
    project, other = (new_key_text().prefix for _ in range(2))
    key = ApiKey(scopes=["projects:read"], project_id=project)

    assert key.may("projects:read", project)
    assert not key.may("projects:read", other)
    assert not key.may("projects:read")
    assert not key.may("projects:write", project)
    assert ApiKey(scopes=["projects:read"]).may("projects:read", other)
