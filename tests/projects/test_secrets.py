"""Secrets: what goes in comes out to the platform's code alone, and for whom it was meant."""

import copy
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import FieldError
from django.core.management import CommandError, call_command
from django.core.serializers import serialize
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from pydantic import SecretStr
from pytest_django import Settings

from projects import sealing, secrets
from projects.actions.secrets import MAX_CHARS, remove_secret, rotate_secrets, set_secret
from projects.actors import Actor
from projects.errors import InvalidSecret, SecretUnreadable
from projects.models import AuditLog, Project, Secret
from projects.sealing import Sealed
from tests.factories import NOW, TESTER, ProjectFactory, SecretFactory, UserFactory

pytestmark = pytest.mark.django_db
WHO: dict[str, Any] = {"by": TESTER, "now": NOW}
OLD, NEW = "old-" * 10, "new-" * 10
KEY = "ANTHROPIC_API_KEY"
TEXT = "sk-test-of-a-key-1234"


@pytest.fixture(autouse=True)
def keys(settings: Settings) -> None:
    settings.EKLAVYA_SECRET_KEYS = [OLD]


@pytest.fixture
def project() -> Project:
    return ProjectFactory()


def stored(secret: Secret) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT value FROM projects_secret WHERE id = %s", [secret.pk])
        return str(cursor.fetchone()[0])


def test_value_comes_back_to_code_and_is_stored_encrypted(project: Project) -> None:
    secret = set_secret(project, KEY, SecretStr(f"  {TEXT}\n"), **WHO)

    assert secrets.reveal(secret).get_secret_value() == TEXT
    assert secret.last_four == "1234"
    assert TEXT not in stored(secret)
    assert stored(secret) != stored(set_secret(None, KEY, SecretStr(TEXT), **WHO))


def test_short_value_shows_nothing_of_itself() -> None:
    assert SecretFactory(text="hunter2").last_four == ""


def test_set_again_replaces_and_keeps_one_row(project: Project) -> None:
    first = set_secret(project, KEY, SecretStr("first"), **WHO)
    ada = User.objects.create_user("ada")
    second = set_secret(project, KEY, SecretStr("second"), by=Actor.person(ada), now=NOW + timedelta(days=1))

    assert (second.pk, second.changed_by, second.created_at) == (first.pk, ada, NOW)
    assert secrets.reveal(Secret.objects.get()).get_secret_value() == "second"
    details = AuditLog.objects.filter(action="secret.set").order_by("seq").values_list("details", flat=True)
    assert list(details) == [{"name": KEY, "replaced": False}, {"name": KEY, "replaced": True}]


@pytest.mark.parametrize("name", ["", "key", "1KEY", "KEY-1", "KÉY", "K" * 65, "KEY\n", "KEY "])
def test_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidSecret, match="capital letters"):
        set_secret(None, name, SecretStr("x"), **WHO)


@pytest.mark.parametrize("value", ["", " \n", "a\x00b", "a\x1bb", "x" * (MAX_CHARS + 1)])
def test_impossible_value_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(InvalidSecret) as refused:
        set_secret(None, KEY, SecretStr(value), **WHO)
    assert value.strip() == "" or value not in str(refused.value)
    assert not Secret.objects.exists()


def test_value_of_several_lines_is_kept_as_it_is() -> None:
    assert secrets.reveal(SecretFactory(text="-----BEGIN\n\tabc\r\n=é🦉\n-----END")).get_secret_value() == (
        "-----BEGIN\n\tabc\r\n=é🦉\n-----END"
    )


def test_removed_is_gone_with_a_record(project: Project) -> None:
    secret = SecretFactory(project=project, name=KEY)
    remove_secret(secret, **WHO)

    assert secrets.find(KEY, project.pk) is None
    row = AuditLog.objects.get(action="secret.removed")
    assert (row.details, row.project_id) == ({"name": KEY}, project.pk)


# -- who gets which


def test_key_of_the_model_is_the_projects_then_the_accounts_then_the_environments(
    project: Project, settings: Settings
) -> None:
    def access() -> tuple[str, str, str]:
        found = secrets.model_access(project.pk)
        return found.source, found.key.get_secret_value(), found.url

    settings.EKLAVYA_KEYED_MODEL_URL, settings.EKLAVYA_MODEL_URL = "https://real", "http://rehearsal"
    settings.EKLAVYA_MODEL_KEY = "of-the-house"
    assert access() == ("rehearsal", "of-the-house", "http://rehearsal")
    settings.EKLAVYA_MODEL_MODE = "real"
    assert access() == ("environment", "of-the-house", "http://rehearsal")
    SecretFactory(project=ProjectFactory(), name=KEY, text="of another project")
    SecretFactory(name="OTHER", text="of another name")
    assert access()[0] == "environment"
    SecretFactory(name=KEY, text="of the account")
    assert access() == ("account", "of the account", "https://real")
    SecretFactory(project=project, name=KEY, text="its own")
    assert access() == ("project", "its own", "https://real")
    assert "its own" not in repr(secrets.model_access(project.pk))


def test_key_that_cannot_be_read_is_not_replaced_by_anothers(project: Project, settings: Settings) -> None:
    SecretFactory(name=KEY, text="of the account")
    settings.EKLAVYA_SECRET_KEYS = [NEW]
    SecretFactory(project=ProjectFactory(), name=KEY)
    with pytest.raises(SecretUnreadable, match="ANTHROPIC_API_KEY of the account"):
        secrets.model_access(project.pk)


def test_value_copied_into_another_row_does_not_open(project: Project) -> None:
    mine, other = SecretFactory(project=project, name=KEY), SecretFactory(name=KEY)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE projects_secret SET value = %s WHERE id = %s", [stored(mine), other.pk])

    with pytest.raises(SecretUnreadable, match="copied here from elsewhere"):
        secrets.reveal(Secret.objects.get(pk=other.pk))


def test_stamp_of_the_rehearsal_is_not_on_pages_of_a_project_with_a_real_model(ada: Client, project: Project) -> None:
    def stamps() -> list[bool]:
        pages = (reverse("project", args=[project.pk]), reverse("home"))
        return ["every role. Its work is real" in ada.get(page).content.decode() for page in pages]

    assert stamps() == [True, True]
    SecretFactory(project=project, name=KEY)
    assert stamps() == [False, True]
    SecretFactory(name=KEY)
    assert stamps() == [False, False]


# -- what cannot be done with a value


@pytest.mark.parametrize(
    "lookup", ["value", "value__exact", "value__contains", "value__in", "value__gt", "value__regex", "value__length"]
)
def test_looking_for_a_value_is_refused(lookup: str) -> None:
    with pytest.raises(FieldError):
        Secret.objects.filter(**{lookup: ["x"] if lookup.endswith("in") else "x"}).exists()


def test_plain_text_is_not_stored() -> None:
    secret = SecretFactory()
    with pytest.raises(TypeError, match="only sealed values"):
        Secret.objects.filter(pk=secret.pk).update(value=TEXT)


def test_value_shows_itself_nowhere() -> None:
    secret = Secret.objects.get(pk=SecretFactory(text=TEXT).pk)
    shown = [repr(secret), str(secret), repr(secret.value), f"{secret.value}", repr(vars(secret))]
    shown += [
        serialize("json", [secret]),
        repr(list(Secret.objects.values())),
        repr(sealing.seal(SecretStr(TEXT), whose="x")),
    ]
    for text in shown:
        assert TEXT not in text
        assert secret.value.token not in text
    for dump in (lambda: pickle.dumps(secret), lambda: json.dumps(secret.value), lambda: copy.deepcopy(secret.value)):
        with pytest.raises(TypeError):
            dump()


def test_database_refuses_two_of_one_name_and_odd_names(project: Project) -> None:
    fields = {"value": Sealed("x"), "created_at": NOW, "changed_at": NOW}
    for owner in (None, project):
        Secret.objects.create(project=owner, name=KEY, **fields)
        with pytest.raises(IntegrityError, match="secret_once_per_project"), transaction.atomic():
            Secret.objects.create(project=owner, name=KEY, **fields)
    with pytest.raises(IntegrityError, match="secret_name"), transaction.atomic():
        Secret.objects.create(name="lower", **fields)


# -- changing keys


def test_rotation_encrypts_with_the_first_key_and_the_others_can_go(settings: Settings, capsys: Any) -> None:
    old = [SecretFactory(text=f"value {n}") for n in range(3)]
    settings.EKLAVYA_SECRET_KEYS = [NEW, OLD]
    SecretFactory(text="value 3")

    call_command("rotate_secrets")
    call_command("rotate_secrets")

    assert capsys.readouterr().out.splitlines() == [
        "3 of 4 secrets encrypted anew",
        "0 of 4 secrets encrypted anew",
    ]
    settings.EKLAVYA_SECRET_KEYS = [NEW]
    values = {secrets.reveal(secret).get_secret_value() for secret in Secret.objects.all()}
    assert values == {f"value {n}" for n in range(4)}
    assert AuditLog.objects.get(action="secret.rotated").details == {"secrets": len(old)}


def test_rotation_changes_nothing_when_one_cannot_be_read(settings: Settings) -> None:
    first = SecretFactory()
    settings.EKLAVYA_SECRET_KEYS = [NEW]
    SecretFactory(name="READABLE")
    settings.EKLAVYA_SECRET_KEYS = ["third-" * 8, NEW]
    before = {secret.pk: stored(secret) for secret in Secret.objects.all()}

    with pytest.raises(CommandError, match=f"Nothing was changed. {first.name} of the account"):
        call_command("rotate_secrets")
    assert {secret.pk: stored(secret) for secret in Secret.objects.all()} == before


def test_rotation_of_nothing_leaves_no_record() -> None:
    assert rotate_secrets(**WHO) == 0
    assert not AuditLog.objects.exists()


# -- the pages


@pytest.fixture
def ada(client: Client) -> Client:
    client.force_login(UserFactory(username="ada", is_superuser=True))
    return client


def test_secret_is_set_and_removed_on_a_projects_page(ada: Client, project: Project) -> None:
    page = reverse("project_secrets", args=[project.pk])
    answer = ada.post(reverse("project_secret_set", args=[project.pk]), {"name": KEY, "value": TEXT}, follow=True)
    secret = Secret.objects.get()

    assert answer.redirect_chain == [(page, 302)]
    assert f"…{TEXT[-4:]}" in answer.content.decode()
    assert secret.project == project
    assert AuditLog.objects.get(action="secret.set").actor_name == "ada"
    ada.post(reverse("secret_remove", args=[secret.pk]))
    assert "No secret is kept" in ada.get(page).content.decode()


def test_secret_of_the_account_is_set_on_its_page(ada: Client) -> None:
    ada.post(reverse("secret_set"), {"name": KEY, "value": TEXT})
    assert Secret.objects.get().project is None
    assert "ada" in ada.get(reverse("secrets")).content.decode()


@pytest.mark.parametrize(("name", "value"), [("lower", TEXT), (KEY, TEXT + "\x1b"), ("", TEXT), (KEY, TEXT * 500)])
def test_what_was_typed_wrong_is_not_sent_back(ada: Client, name: str, value: str) -> None:
    answer = ada.post(reverse("secret_set"), {"name": name, "value": value})

    assert answer.status_code == 422
    assert TEXT not in answer.content.decode()
    assert not Secret.objects.exists()


def test_operators_look_and_change_nothing(client: Client, project: Project) -> None:
    client.force_login(UserFactory())
    secret = SecretFactory(project=project)

    assert client.get(reverse("project_secrets", args=[project.pk])).status_code == 200
    assert client.post(reverse("secret_set"), {"name": KEY, "value": TEXT}).status_code == 403
    assert client.post(reverse("secret_remove", args=[secret.pk])).status_code == 403
    assert Secret.objects.get() == secret


def test_admin_takes_a_secret_and_shows_none(ada: Client, project: Project) -> None:
    address = reverse("admin:projects_secret_add")
    bad = ada.post(address, {"project": str(project.pk), "name": "lower", "plain": TEXT}, follow=True)
    assert TEXT not in bad.content.decode()
    ada.post(address, {"project": str(project.pk), "name": KEY, "plain": TEXT})

    secret = Secret.objects.get()
    assert secrets.reveal(secret).get_secret_value() == TEXT
    for name, args in (("changelist", []), ("change", [secret.pk]), ("history", [secret.pk])):
        page = ada.get(reverse(f"admin:projects_secret_{name}", args=args)).content.decode()
        assert TEXT not in page
        assert secret.value.token not in page
