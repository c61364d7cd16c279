"""The Celery tasks, called as functions: each asks rows and calls one thing. The broker is real, nobody listens."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerAway
from pytest_django import Settings

from agents import sandboxes, tasks
from agents.actions import workers
from agents.models import Pulse, Run, Worker
from agents.runtimes.errors import RuntimeUnavailable
from agents.sandboxes import runtime
from agents.states import RunStatus, WorkerStatus
from agents.supervisor.keeper import WORKER_STOPPING
from eklavya.celery import app
from projects.models import AuditLog
from projects.states import TaskStatus
from tests.agents.supervisor.line import wait_until
from tests.factories import NOW, ProjectFactory, PulseFactory, RunFactory, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _local(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    tasks.keeper.cache_clear()
    yield
    if tasks.keeper.cache_info().currsize:
        tasks.keeper().close()
    tasks.keeper.cache_clear()
    tasks._announced.clear()
    tasks._lacks_runtime.clear()
    sandboxes.choice.cache_clear()


@pytest.fixture
def _empty_queues() -> None:
    messages()


def messages() -> list[tuple[str, str, dict[str, str]]]:
    """Return what lies in the queues: queue, task, arguments."""
    found = []
    with app.connection_for_read() as broker:
        for queue in app.amqp.queues:
            while (message := broker.default_channel.basic_get(queue, no_ack=True)) is not None:
                found.append((queue, message.headers["task"], message.decode()[1]))
    return found


@pytest.mark.django_db(transaction=True)  # it sends what is committed
@pytest.mark.usefixtures("_empty_queues")
def test_dispatch_sends_each_run_to_its_workers_queue(settings: Settings) -> None:
    WorkerFactory(queue=settings.EKLAVYA_WORKER_QUEUE)
    task = TaskFactory(next_attempt_at=NOW)

    tasks.dispatch()

    (run,) = task.runs.all()
    expected = (settings.EKLAVYA_WORKER_QUEUE, "agents.tasks.supervise_runs", {"run_ids": [str(run.pk)]})
    assert expected in messages()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_empty_queues")
def test_a_worker_does_one_of_the_runs_that_it_dispatches_itself(settings: Settings) -> None:
    tasks.announce_worker()
    own, other = TaskFactory.create_batch(2, project=TaskFactory(status="completed").project, next_attempt_at=NOW)
    messages()

    tasks.dispatch()

    # Without prompts a run ends at once: with a message for people, and its lease and token gone.
    done = Run.objects.get(task=own)
    assert (done.status, done.token_hash) == (RunStatus.FAILED, "")
    assert done.lease_owner == tasks.keeper().owner
    waiting = Run.objects.get(task=other)
    assert (waiting.status, waiting.lease_owner) == (RunStatus.QUEUED, "")
    sent = [arguments for _, name, arguments in messages() if name == "agents.tasks.supervise_runs"]
    assert sent == [{"run_ids": [str(waiting.pk)]}]


@pytest.mark.usefixtures("_empty_queues")
def test_sweep_finds_what_was_left_behind() -> None:
    PulseFactory(seen_at=timezone.now())
    silent = WorkerFactory(heartbeat_at=timezone.now() - timedelta(minutes=5))
    lost = RunFactory(status="running", lease_until=timezone.now() - timedelta(minutes=1))
    unasked = RunFactory(
        status="running",
        started_at=timezone.now(),
        lease_until=timezone.now() + timedelta(minutes=1),
        task=TaskFactory(status="in_progress", project=ProjectFactory(status="paused", paused_from="building")),
    )
    built = TaskFactory(status="completed", completed_at=NOW)
    alone = TaskFactory(status="blocked", reason="awaiting_merge")

    tasks.sweep()

    assert Worker.objects.get(pk=silent.pk).status == WorkerStatus.OFFLINE
    assert Run.objects.get(pk=lost.pk).status == RunStatus.LOST
    assert Run.objects.get(pk=unasked.pk).stop_requested == "paused"
    assert alone.approvals.get().kind == "blocked_task", "nobody resolves its conflict"
    assert ("agents.tasks.deliver", {"project_id": str(built.project_id)}) in [one[1:] for one in messages()]


def test_a_step_of_the_sweep_that_breaks_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    PulseFactory(seen_at=timezone.now())
    silent = WorkerFactory(heartbeat_at=timezone.now() - timedelta(minutes=5))
    lost = RunFactory(status="running", lease_until=timezone.now() - timedelta(minutes=1))

    def breaks(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(workers, "notice_silent", breaks)
    with pytest.raises(ExceptionGroup) as broken:
        tasks.sweep()

    assert broken.group_contains(ZeroDivisionError)
    assert Worker.objects.get(pk=silent.pk).status == WorkerStatus.ONLINE
    assert Run.objects.get(pk=lost.pk).status == RunStatus.LOST


@pytest.mark.usefixtures("_empty_queues")
def test_sweep_has_each_machine_clear_up_after_itself() -> None:
    WorkerFactory(queue="runs.gone", status="offline")
    WorkerFactory(queue="runs.here", status="draining", heartbeat_at=timezone.now())

    tasks.sweep()

    with app.connection_for_read() as broker:
        message = broker.default_channel.basic_get("runs.here", no_ack=True)
        assert message.headers["task"] == "agents.tasks.tidy"
        assert broker.default_channel.basic_get("runs.here", no_ack=True) is None
        assert broker.default_channel.basic_get("runs.gone", no_ack=True) is None


def test_sweep_twice_is_as_once() -> None:
    PulseFactory(seen_at=timezone.now())
    lost = RunFactory(status="running", lease_until=timezone.now() - timedelta(minutes=1))

    tasks.sweep()
    tasks.sweep()

    lost.task.refresh_from_db()
    assert (lost.task.status, lost.task.attempts) == (TaskStatus.READY, 0)


@pytest.mark.usefixtures("_empty_queues")
def test_sweep_after_an_outage_takes_nobody_for_dead() -> None:
    outage = timedelta(seconds=30)
    PulseFactory(seen_at=timezone.now() - outage)
    expired = timezone.now() - outage + timedelta(seconds=20)
    run = RunFactory(status="running", started_at=timezone.now(), lease_until=expired)
    worker = WorkerFactory(heartbeat_at=timezone.now() - outage - timedelta(seconds=1))

    tasks.sweep()

    assert Run.objects.get(pk=run.pk).status == RunStatus.RUNNING
    assert Worker.objects.get(pk=worker.pk).status == WorkerStatus.ONLINE


def test_a_worker_that_beats_keeps_the_pulse() -> None:
    PulseFactory(seen_at=timezone.now() - timedelta(seconds=1))
    before = Pulse.objects.get()

    tasks.keeper().beat_once()

    after = Pulse.objects.get()
    assert after.since == before.since
    assert after.seen_at > before.seen_at


def test_a_beat_notes_when_it_got_through_and_not_when_it_began() -> None:
    began = timezone.now() - timedelta(seconds=9)
    PulseFactory(seen_at=began)

    tasks._beat(tasks.keeper(), began)

    assert Pulse.objects.get().seen_at > began + timedelta(seconds=8)


@pytest.mark.usefixtures("_empty_queues")
def test_the_sweep_takes_out_who_is_shut_out_also_without_a_pulse() -> None:
    worker = WorkerFactory(queue="remote.far", heartbeat_at=timezone.now())

    tasks.sweep()

    assert Worker.objects.get(pk=worker.pk).status == WorkerStatus.OFFLINE


def test_stop_runs_asks_the_projects_runs_alone() -> None:
    run, other = RunFactory(status="running"), RunFactory(status="running")

    tasks.stop_runs(project_id=str(run.project_id), reason="paused")

    assert Run.objects.get(pk=run.pk).stop_requested == "paused"
    assert Run.objects.get(pk=other.pk).stop_requested == ""


@pytest.mark.usefixtures("_empty_queues")
@pytest.mark.django_db(transaction=True)
def test_a_worker_is_announced_though_the_broker_is_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would be registered each second until the broker is back."""

    def fail() -> None:
        raise BrokerAway("no Redis")

    with monkeypatch.context() as away:
        away.setattr(tasks, "nudge", fail)
        tasks.announce_worker()

    assert Worker.objects.get(name=settings.EKLAVYA_WORKER_NAME).status == WorkerStatus.ONLINE
    tasks.retire_worker()


@pytest.mark.usefixtures("_empty_queues")
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_began_before_its_daemon_takes_runs_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.EKLAVYA_RUNTIME = "docker"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    worker = Worker.objects.filter(name=settings.EKLAVYA_WORKER_NAME)

    tasks.announce_worker()
    assert worker.values_list("status", "reason", "runtime").get() == ("error", "runtime_unavailable", "")
    with pytest.raises(RuntimeUnavailable):
        tasks.tidy()
    assert worker.get().status == WorkerStatus.ERROR

    settings.EKLAVYA_RUNTIME = "local"
    messages()
    tasks.tidy()
    assert worker.values_list("status", "reason", "runtime").get() == ("online", "", "local")
    assert [task for _, task, _ in messages()] == ["agents.tasks.dispatch"]
    tasks.tidy()
    assert messages() == []
    assert AuditLog.objects.filter(action="worker.registered").count() == 2
    tasks.retire_worker()


@pytest.mark.usefixtures("_empty_queues")
@pytest.mark.django_db(transaction=True)
def test_a_worker_announces_itself_beats_and_signs_off(settings: Settings) -> None:
    tasks.announce_worker()

    worker = Worker.objects.get(name=settings.EKLAVYA_WORKER_NAME)
    assert (worker.status, worker.queue, worker.runtime) == ("online", settings.EKLAVYA_WORKER_QUEUE, "local")
    assert worker.info["isolated"] is False
    since = worker.heartbeat_at
    wait_until(lambda: Worker.objects.filter(pk=worker.pk, heartbeat_at__gt=since).exists())

    with tasks.keeper().hold(worker.pk) as stop:
        tasks.retire_worker()
        assert stop.reason == WORKER_STOPPING
        tasks.keeper().beat_once()

    worker.refresh_from_db()
    assert worker.status == WorkerStatus.OFFLINE


@pytest.mark.django_db(transaction=True)
def test_supervise_run_of_somebody_elses_run_does_nothing() -> None:
    run = RunFactory(status="running", lease_owner="elsewhere")

    tasks.supervise_runs(run_ids=[str(run.pk)])

    run.refresh_from_db()
    assert (run.status, run.lease_owner) == (RunStatus.RUNNING, "elsewhere")
    assert runtime().list_sandboxes() == ()


@pytest.mark.django_db(transaction=True)
def test_supervise_run_of_a_role_without_a_prompt_says_so() -> None:
    run = RunFactory()

    tasks.supervise_runs(run_ids=[str(run.pk)])

    run.refresh_from_db()
    run.task.refresh_from_db()
    assert (run.status, run.reason) == (RunStatus.FAILED, "platform_error")
    assert "has no active prompt" in run.task.detail
