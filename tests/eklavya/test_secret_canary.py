"""A secret goes in by every door there is; afterwards it is looked for everywhere that people or programs look."""

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command
from django.core.signals import got_request_exception
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.views.debug import ExceptionReporter
from pytest_django import Settings

from projects import secrets
from projects.errors import SecretUnreadable
from projects.models import AuditLog, Secret
from tests.eklavya.test_hostile_texts import PAGES, House
from tests.factories import ProjectFactory, SecretFactory, UserFactory

pytestmark = pytest.mark.django_db
CANARY = "sk-canary-3f9a71c2-do-not-show-7c1d"
# The end of a value is shown; a longer piece of it nowhere.
PIECES = ("canary-3f9a", "71c2-do-not", "show-7c1d")


def holds_canary(text: str) -> bool:
    return any(piece in text for piece in PIECES)


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(UserFactory(username="root", is_superuser=True))
    return client


@pytest.fixture
def house(root: Client) -> House:
    """A house with the canary as secret of the account, of its project, and put in twice by the administration."""
    house = House()
    root.post(reverse("secret_set"), {"name": "ANTHROPIC_API_KEY", "value": CANARY})
    root.post(reverse("project_secret_set", args=[house.project.pk]), {"name": "ANTHROPIC_API_KEY", "value": CANARY})
    root.post(reverse("admin:projects_secret_add"), {"project": "", "name": "OTHER", "plain": CANARY})
    root.post(reverse("secret_set"), {"name": "not a name", "value": CANARY})
    root.post(reverse("admin:projects_secret_add"), {"project": "", "name": "not a name", "plain": CANARY})
    assert {secrets.reveal(secret).get_secret_value() for secret in Secret.objects.all()} == {CANARY}
    assert Secret.objects.count() == 3
    return house


def addresses(house: House) -> Iterator[str]:
    """Every page: those without arguments, those of the project, those of single rows, and the administration's."""
    for name, arguments in named(get_resolver().url_patterns):
        if not arguments:
            yield reverse(name)
        elif arguments == {"project_id"}:
            yield reverse(name, args=[house.project.pk])
    for page in PAGES.values():
        yield page(house)
    for model in apps.get_models():
        if admin.site.is_registered(model):
            label = f"admin:{model._meta.app_label}_{model._meta.model_name}"
            yield reverse(f"{label}_changelist")
            for row in model._default_manager.all()[:3]:
                yield reverse(f"{label}_change", args=[row.pk])
                yield reverse(f"{label}_history", args=[row.pk])


def named(patterns: list[Any], outer: frozenset[str] = frozenset()) -> Iterator[tuple[str, frozenset[str]]]:
    """The names of the portal's own addresses, with the names of their arguments."""
    for entry in patterns:
        arguments = outer | {*entry.pattern.converters, *entry.pattern.regex.groupindex}
        if isinstance(entry, URLResolver) and not entry.namespace:
            yield from named(entry.url_patterns, arguments)
        elif isinstance(entry, URLPattern) and entry.name:
            yield entry.name, arguments


def body(response: Any) -> str:
    content = b"" if response.streaming else response.content
    return str(content.decode("utf-8", "replace")) + repr(response.headers) + repr(response.cookies)


def test_no_page_shows_it(root: Client, house: House) -> None:
    visited = 0
    for address in sorted(set(addresses(house))):
        response = root.get(address)
        assert not holds_canary(body(response)), address
        visited += response.status_code == 200
    assert visited > 60
    assert "7c1d" in body(root.get(reverse("secrets")))  # its end tells two apart


def test_no_row_of_the_database_holds_it(root: Client, house: House) -> None:
    tables = connection.introspection.table_names()
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            assert not any(holds_canary(row[0]) for row in cursor.fetchall()), table
    assert "projects_secret" in tables
    assert AuditLog.objects.filter(action="secret.set").count() == 3


def test_no_log_line_holds_it(root: Client, house: House, caplog: Any, settings: Settings) -> None:
    caplog.set_level(logging.DEBUG)
    root.post(reverse("secret_set"), {"name": "LOGGED", "value": CANARY})
    settings.EKLAVYA_SECRET_KEYS = ["another-key-" * 4, *settings.EKLAVYA_SECRET_KEYS]
    call_command("rotate_secrets")
    access = secrets.model_access(house.project.pk)
    logging.getLogger("test").error("%s %r %s", access, Secret.objects.first(), vars(Secret.objects.get(name="OTHER")))

    assert "ModelAccess" in caplog.text
    assert not holds_canary(caplog.text)


def test_no_error_holds_it(settings: Settings) -> None:
    secret = SecretFactory(project=ProjectFactory(), name="ANTHROPIC_API_KEY", text=CANARY)
    settings.EKLAVYA_SECRET_KEYS = ["another-key-" * 4]
    with pytest.raises(SecretUnreadable) as refused:
        secrets.model_access(secret.project_id)
    assert not holds_canary(str(refused.value) + repr(refused.value))


@pytest.mark.parametrize(
    "broken", ["projects.sealing.seal", "projects.actions.secrets._check", "projects.audit._append"]
)
def test_no_error_report_holds_it(root: Client, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """What breaks in the middle is reported with the variables of every frame, and what was posted."""

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken")

    reports: list[str] = []

    def report(request: Any, **_: object) -> None:
        reporter = ExceptionReporter(request, *sys.exc_info())
        reports.extend([reporter.get_traceback_html(), reporter.get_traceback_text()])

    monkeypatch.setattr(broken, fail)
    root.raise_request_exception = False
    got_request_exception.connect(report)
    try:
        answer = root.post(reverse("secret_set"), {"name": "BROKEN", "value": CANARY})
        answers = [answer, root.post(reverse("admin:projects_secret_add"), {"name": "BROKEN", "plain": CANARY})]
    finally:
        got_request_exception.disconnect(report)

    assert [answer.status_code for answer in answers] == [500, 500]
    assert len(reports) == 4
    for text in [*reports, *map(body, answers)]:
        assert not holds_canary(text)
