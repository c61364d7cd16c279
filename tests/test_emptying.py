"""After a test with real transactions nothing of it is left, whatever guards the tables and whoever still writes."""

import threading

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from projects import audit
from projects.models import AuditLog
from tests import emptying
from tests.emptying import empty_database
from tests.factories import NOW, TESTER, MessageFactory, ProjectFactory, RunFactory

pytestmark = pytest.mark.django_db(transaction=True)


def rows() -> int:
    """How many there are in all tables, without what `migrate` made for Django."""
    models = [model for model in apps.get_models() if model not in {ContentType, Permission} and model._meta.managed]
    return sum(model._base_manager.count() for model in models)


def fill() -> None:
    MessageFactory(project=RunFactory(status="running").project)
    with audit.journal(by=TESTER, now=NOW) as journal:
        journal.add("project.created", project_id=ProjectFactory().pk)


def test_nothing_is_left() -> None:
    kept = ContentType.objects.count(), Permission.objects.count()
    fill()
    assert AuditLog.objects.exists()

    empty_database()

    assert rows() == 0
    assert (ContentType.objects.count(), Permission.objects.count()) == kept
    assert min(kept) > 0


def test_tables_that_have_grown_get_new_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emptying, "LARGE_BYTES", 0)
    emptying._look.cache_clear()
    fill()

    empty_database()
    emptying._look.cache_clear()

    assert rows() == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('projects_project')")
        assert cursor.fetchone() == (0,)


def test_whoever_still_writes_is_waited_for() -> None:
    written, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            ProjectFactory()
            written.set()
            go_on.wait(60)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    written.wait(60)
    threading.Timer(0.1, go_on.set).start()

    empty_database()
    writer.join()

    assert rows() == 0


def test_triggers_and_keys_hold_afterwards() -> None:
    fill()
    empty_database()

    with connection.cursor() as cursor:
        cursor.execute("SHOW session_replication_role")
        assert cursor.fetchone() == ("origin",)
