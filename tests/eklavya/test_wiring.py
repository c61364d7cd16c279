"""What Celery's signals and committed events set off."""

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import OperationalError
from kombu.exceptions import OperationalError as BrokerAway

from agents.errors import WorkerConflict
from eklavya import wiring
from projects.actions.chat import notify
from projects.models import Notification
from projects.workflows import hosting
from tests.factories import NOW, TESTER, WebhookEndpointFactory

# What only some processes use, and which takes as long to load as all the rest.
RARELY_USED = ("aiohttp", "cel", "claude_agent_sdk", "mcp")
LOAD = """
import gc, sys
from eklavya import asgi, urls
from eklavya.celery import app
app.loader.import_default_modules()
assert "agents.tasks.sweep" in app.tasks
assert gc.isenabled() and gc.get_freeze_count(), "the settings stop the collector, and the apps begin it again"
print(*sorted(sys.modules.keys() & set(sys.argv)))
"""


def test_a_process_loads_at_its_start_only_what_it_uses() -> None:
    given = os.environ | {"DJANGO_SETTINGS_MODULE": "eklavya.settings"}
    command = [sys.executable, "-c", LOAD, *RARELY_USED]
    ended = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.split() == []


def test_runs_are_handed_back_before_the_runner_of_workflows_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def fail() -> None:
        called.append("runs")
        raise OperationalError

    monkeypatch.setattr(wiring, "retire_worker", fail)
    monkeypatch.setattr(hosting, "stop", lambda: called.append("runner"))
    with pytest.raises(OperationalError):
        wiring._retire()
    assert called == ["runs", "runner"]


def join_retirement() -> None:
    """Wait for the thread that retires: after its test it would retire a worker for real."""
    for thread in threading.enumerate():
        if thread.name == "retirement":
            thread.join(timeout=60)
            assert not thread.is_alive()


def test_a_worker_retires_once_and_not_in_the_signal_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    retired: list[threading.Thread] = []
    monkeypatch.setattr(wiring, "_retiring", threading.Lock())
    monkeypatch.setattr(wiring, "retire_worker", lambda: retired.append(threading.current_thread()))

    wiring._end_worker(sig="SIGTERM")
    wiring._end_worker(sig="SIGTERM")

    join_retirement()
    assert len(retired) == 1
    assert retired[0] is not threading.main_thread()


def test_a_worker_that_would_be_another_one_ends_and_signs_nobody_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise WorkerConflict

    ended: list[int] = []
    monkeypatch.setattr(wiring, "_retiring", threading.Lock())
    monkeypatch.setattr(wiring, "announce_worker", refuse)
    monkeypatch.setattr(wiring, "retire_worker", lambda: pytest.fail("it signed off"))
    monkeypatch.setattr(wiring.os, "kill", lambda _pid, number: ended.append(number))

    wiring._begin_worker()
    wiring._end_worker()

    assert ended == [signal.SIGTERM]


@pytest.mark.django_db
@pytest.mark.parametrize("problem", [OperationalError("couldn't get a connection"), BrokerAway("no Redis")])
def test_a_worker_is_announced_once_the_servers_answer(monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    """Or it would do light work for as long as it lives, and no runs."""
    answers: list[Exception | None] = [problem, problem, None]
    begun: list[str] = []

    def announce() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(wiring, "_retiring", threading.Lock())
    monkeypatch.setattr(wiring, "ANNOUNCE_AGAIN_S", 0)
    monkeypatch.setattr(wiring, "announce_worker", announce)
    monkeypatch.setattr(hosting, "ensure", lambda: begun.append("runner"))

    wiring._begin_worker()

    assert answers == []
    assert begun == ["runner"]


@pytest.mark.django_db
def test_a_worker_that_ends_before_it_is_announced_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        wiring._end_worker(sig="SIGTERM")
        raise OperationalError

    monkeypatch.setattr(wiring, "_retiring", threading.Lock())
    monkeypatch.setattr(wiring, "announce_worker", end)
    monkeypatch.setattr(wiring, "retire_worker", lambda: None)
    monkeypatch.setattr(hosting, "ensure", lambda: pytest.fail("it goes on"))

    wiring._begin_worker()
    join_retirement()


@pytest.mark.django_db
@pytest.mark.parametrize(("status", "expected"), [("active", True), ("disabled", False), (None, False)])
def test_an_event_sets_off_webhooks_where_somebody_listens(
    django_capture_on_commit_callbacks: Any, status: str | None, expected: bool
) -> None:
    """Asked of the real broker: the message that a worker would take."""
    if status:
        WebhookEndpointFactory(status=status)
    broker = redis.from_url(settings.REDIS_URL)
    broker.delete(settings.CELERY_TASK_DEFAULT_QUEUE)
    with django_capture_on_commit_callbacks(execute=True):
        notify(None, level=Notification.Level.INFO, title="News", by=TESTER, now=NOW)

    messages = [json.loads(one) for one in broker.lrange(settings.CELERY_TASK_DEFAULT_QUEUE, 0, -1)]
    broker.close()
    assert ("projects.tasks.send_webhooks" in [one["headers"]["task"] for one in messages]) is expected
