"""Runs that end because the model's API is away."""

from datetime import timedelta

import pytest

from agents.actions import outages, usage
from agents.models import Run
from agents.supervisor import supervise
from agents.supervisor.keeper import Stop
from projects.models import Task
from tests.factories import NOW, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


def silent_run(task: Task | None = None) -> Run:
    run: Run = RunFactory(status="running", task=task or TaskFactory(status="in_progress"))
    outages.note_silence(run.pk, now=NOW)
    return run


def end(run: Run, reason: str = "model_error") -> Task:
    supervise._fail(run, reason, "529 Overloaded", Stop(), clock=lambda: NOW)
    run.refresh_from_db()
    return Task.objects.get(pk=run.task_id)


@pytest.mark.parametrize("reason", ["model_error", "stalled", "cli_failed", "wall_clock"])
def test_an_outage_costs_the_task_no_attempt_and_says_so(reason: str) -> None:
    run = silent_run()

    task = end(run, reason)

    assert (run.status, run.reason) == ("failed", "model_outage")
    assert (task.status, task.attempts, task.reason) == ("ready", 0, "model_outage")
    assert "has not answered since" in task.detail
    assert "529 Overloaded" in task.detail
    assert task.next_attempt_at == NOW + timedelta(seconds=30)


def test_other_ends_stay_what_they_are() -> None:
    run = silent_run()
    assert end(run, "no_such_reason").attempts == 1
    assert run.reason == "no_such_reason"


def test_an_answer_ends_the_silence() -> None:
    run = silent_run()
    usage.record_usage(run.pk, tokens=1, cost=run.cost, now=NOW)

    assert end(run).attempts == 1
    assert run.reason == "model_error"


def test_outages_in_a_row_wait_longer_and_in_the_end_cost_attempts() -> None:
    task, delays = TaskFactory(status="in_progress"), []
    for number in range(outages.MAX_OUTAGES + 1):
        run = silent_run(Task.objects.get(pk=task.pk))
        left = end(run)
        delays.append((left.next_attempt_at - NOW).total_seconds())
        assert left.attempts == (0 if number < outages.MAX_OUTAGES else 1)
        Task.objects.filter(pk=task.pk).update(status="allocated")
        Task.objects.filter(pk=task.pk).update(status="in_progress")

    assert delays[:4] == [30, 60, 120, 240]
    assert max(delays) == 900
