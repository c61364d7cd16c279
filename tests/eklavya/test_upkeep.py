"""What beat has done about visitors, and how the tables that change most are looked after."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone

from agents.models import RunEvent
from eklavya import tasks
from eklavya.celery import app
from eklavya.database_roles import append_only_tables
from eklavya.management.commands.setup import PERIODIC

pytestmark = pytest.mark.django_db


def test_visitors_are_forgotten_when_their_time_is_over() -> None:
    now = timezone.now()
    for name, age in (("old", timedelta(minutes=1)), ("young", timedelta(minutes=-1))):
        Session.objects.create(session_key=name, session_data="", expire_date=now - age)
    for name, age in (("old", 3 * settings.AXES_COOLOFF_TIME), ("young", timedelta(0))):
        attempt = AccessAttempt.objects.create(username=name, failures_since_start=5)
        AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=now - age)

    tasks.forget_visitors()

    assert Session.objects.get().session_key == "young"
    assert AccessAttempt.objects.get().username == "young"


def test_what_beat_sends_is_there() -> None:
    app.loader.import_default_modules()
    assert set(PERIODIC) <= set(app.tasks)


def test_every_table_that_only_grows_is_looked_at_by_its_inserts() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE reloptions::text LIKE '%%insert_scale_factor%%'")
        found = {name for (name,) in cursor.fetchall()}
    tables = set(append_only_tables()) - {RunEvent._meta.db_table}  # its partitions have the setting
    assert tables <= found & {model._meta.db_table for model in apps.get_models()}
