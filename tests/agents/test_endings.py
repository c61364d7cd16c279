"""The table of bad ends is what the code does, and each switch holds."""

import re
from pathlib import Path
from typing import get_args

import pytest
from django.conf import settings as configured
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from agents import endings
from agents.actions import recoveries, runs
from agents.actions.runs import Ending
from agents.endings import SWITCHES, WAYS
from agents.errors import UnknownSwitch
from agents.models import Recovery, RecoverySettings
from agents.states import RunStatus
from agents.supervisor import supervise
from agents.supervisor.keeper import Stop
from agents.verification import Reason
from projects.models import AuditLog, Task
from tests.factories import NOW, TESTER, RunFactory, TaskFactory, UserFactory

ROOT = Path(configured.BASE_DIR)
_ENDS = re.compile(r'(?:SessionEnd|_Refused|_refused|return SessionEnd)\(\s*"(\w+)"|Ending\(RunStatus\.\w+, "(\w+)"')


def test_every_reason_in_the_code_is_in_the_table() -> None:
    sources = [*(ROOT / "agents" / "supervisor").glob("*.py"), *(ROOT / "agents" / "actions").glob("*.py")]
    found = {word for path in sources for groups in _ENDS.findall(path.read_text()) for word in groups if word}
    found |= set(get_args(Reason)) | supervise._STATUS.keys() | supervise._NOT_COUNTED | recoveries.REASONS
    assert len(found) > 25
    assert found - {"ok", "finished"} <= WAYS.keys()


def test_the_page_of_recovery_shows_the_table() -> None:
    assert endings.table() in (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")


def fail(reason: str) -> Task:
    run = RunFactory(status="running", task=TaskFactory(status="in_progress", project__status="building"))
    runs.fail(run, Ending(RunStatus.FAILED, reason, "It did."), now=NOW)
    return Task.objects.get(pk=run.task_id)


@pytest.mark.django_db
@pytest.mark.parametrize("reason", sorted(SWITCHES))
def test_each_switch_has_a_person_asked_instead(reason: str) -> None:
    assert fail(reason).status == "ready"
    recoveries.switch(reason, on=False, by=TESTER, now=NOW)
    task = fail(reason)
    assert (task.status, task.approvals.count()) == ("blocked", 1)
    recoveries.switch(reason, on=True, by=TESTER, now=NOW)
    assert fail(reason).status == "ready"


@pytest.mark.django_db
def test_a_run_that_an_admin_stopped_costs_no_attempt() -> None:
    run = RunFactory(status="running", stop_requested="stopped", task__project__status="building")
    supervise._fail(run, "stopped", "", Stop(), clock=lambda: NOW)
    run.refresh_from_db()
    assert (run.status, run.reason, run.detail.split(" while")[0]) == ("cancelled", "stopped", "An admin stopped it")
    task = Task.objects.get(pk=run.task_id)
    assert (task.status, task.attempts) == ("ready", 0)


@pytest.mark.django_db
def test_switches_and_caps_are_audited_and_below_the_environment(settings: Settings) -> None:
    settings.EKLAVYA_RECOVER = ["looping"]
    settings.EKLAVYA_RECOVERIES_PER_HOUR = 5
    with pytest.raises(UnknownSwitch):
        recoveries.switch("stalled", on=True, by=TESTER, now=NOW)
    with pytest.raises(UnknownSwitch):
        recoveries.switch("over_budget", on=False, by=TESTER, now=NOW)
    recoveries.set_caps(1, 100, by=TESTER, now=NOW)
    recoveries.switch("looping", on=False, by=TESTER, now=NOW)

    now = recoveries.in_force()
    assert {"looping", "stalled"} <= now.switched_off
    assert (now.per_task, now.per_hour) == (1, 5)
    changed = AuditLog.objects.filter(action="recoverysettings.changed").order_by("pk")
    assert [row.details for row in changed][1] == {"switched_off": {"from": [], "to": ["looping"]}}
    run = RunFactory(status="running", task=TaskFactory(status="in_progress"))
    assert recoveries.decide(run, "looping", "x", now=NOW) not in recoveries.GOES_ON
    assert Recovery.objects.get().decision == "switched_off"


@pytest.mark.django_db
def test_admins_switch_on_the_page_and_others_look(client: Client) -> None:
    client.force_login(UserFactory(is_superuser=True))
    client.post(reverse("recovery_switch"), {"reason": "tests_failed", "to": "off"})
    client.post(reverse("recovery_caps"), {"per_task": "2", "per_hour": ""})
    row = RecoverySettings.objects.get()
    assert (row.switched_off, row.per_task, row.per_hour) == (["tests_failed"], 2, None)
    assert client.post(reverse("recovery_caps"), {"per_task": "-1"}).status_code == 422
    assert b"An admin switched it off." in client.get(reverse("recovery")).content

    client.force_login(UserFactory())
    assert client.get(reverse("recovery")).status_code == 200
    assert client.post(reverse("recovery_switch"), {"reason": "looping", "to": "off"}).status_code == 403


@pytest.mark.django_db
def test_reasons_that_are_treated_alike_are_one_row_until_one_is_switched(client: Client) -> None:
    client.force_login(UserFactory(is_superuser=True))
    page = client.get(reverse("recovery")).content.decode()
    assert page.count("the verification of its merge") == 1
    assert re.findall(r'id="way-(\w+)"', page) == list(WAYS)
    count = sum(way.seen == "the verification of its merge" for way in WAYS.values())
    assert f"<span>{count} reasons</span>" in page
    assert "<dt>Fingerprint</dt>" in page

    recoveries.switch("tests_failed", on=False, by=TESTER, now=NOW)
    page = client.get(reverse("recovery")).content.decode()
    assert '<tr id="way-tests_failed">' in page
