"""The hints, through a real broker and a real worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.utils import timezone
from pytest_django import Settings

from agents import sandboxes
from agents.runtimes.contract import Runtime
from agents.runtimes.processes import poll
from demos import tasks
from demos.models import Demo
from demos.states import DemoStatus
from eklavya.celery import app
from projects.models import Task
from projects.workflows import hosting
from tests.demos.making import complete_demo_task, make_project
from tests.demos.repositories import APP, MANIFEST, commit_files
from tests.factories import WorkerFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def configured(settings: Settings, var: Path) -> Iterator[Runtime]:
    """The runtime that the settings name."""
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield sandboxes.runtime()
    for name in sandboxes.runtime().list_sandboxes():
        sandboxes.runtime().kill(name)
    sandboxes.choice.cache_clear()


@pytest.fixture
def worker() -> Iterator[None]:
    app.control.purge()  # what other tests sent: done here it would, for one, begin a runner of workflows
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False, shutdown_timeout=20):
        yield
    hosting.stop()


@pytest.fixture
def task(configured: Runtime) -> Task:
    project = make_project(now=timezone.now())
    commit = commit_files(sandboxes.repository(project.pk), {"eklavya.toml": MANIFEST, "app.py": APP})
    return complete_demo_task(project, commit=commit, now=timezone.now())


def test_open_demo_for_comes_twice_and_opens_one(task: Task) -> None:
    tasks.open_demo_for(task_id=str(task.pk))
    tasks.open_demo_for(task_id=str(task.pk))

    assert Demo.objects.get().status == DemoStatus.READY


@pytest.mark.usefixtures("worker")
def test_keep_demos_makes_up_for_a_lost_hint(task: Task) -> None:
    tasks.keep_demos.delay()

    assert poll(lambda: Demo.objects.filter(status=DemoStatus.READY).exists(), timeout_s=60)


@pytest.mark.usefixtures("configured")
def test_keep_demos_has_each_machine_look_after_its_own() -> None:
    for name, status in {"gone": "offline", "elsewhere": "online"}.items():
        WorkerFactory(name=name, queue=f"runs.{name}", status=status)
    WorkerFactory(queue=settings.EKLAVYA_WORKER_QUEUE)

    tasks.keep_demos()

    with app.connection_for_read() as broker:
        message = broker.default_channel.basic_get("runs.elsewhere", no_ack=True)
        assert message.headers["task"] == "demos.tasks.keep_previews"
        for queue in ("runs.elsewhere", "runs.gone", settings.EKLAVYA_WORKER_QUEUE):
            assert broker.default_channel.basic_get(queue, no_ack=True) is None


def test_what_a_machine_asks_itself_for_does_not_pile_up(task: Task) -> None:
    tasks.keep_previews()

    with app.connection_for_read() as broker:
        message = broker.default_channel.basic_get(settings.EKLAVYA_WORKER_QUEUE, no_ack=True)
    assert message.headers["task"] == "demos.tasks.show_demo"
    assert message.headers["expires"], "nobody may read this queue for days"


def test_stop_all_previews_ends_them(task: Task, configured: Runtime) -> None:
    tasks.open_demo_for(task_id=str(task.pk))

    tasks.stop_all_previews()

    assert not configured.list_sandboxes()
