"""Runs that the platform itself fails: a disk that is full, Git that takes too long, a sandbox that does not start."""

import pytest

from agents.actions import faults
from agents.supervisor import supervise
from agents.supervisor.keeper import Stop
from projects.models import Task
from tests.factories import NOW, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


def end(task: Task) -> Task:
    run = RunFactory(status="running", task=Task.objects.get(pk=task.pk))
    supervise._fail(run, faults.PLATFORM_ERROR, "No space left on device", Stop(), clock=lambda: NOW)
    return Task.objects.get(pk=task.pk)


def test_what_the_platform_failed_costs_an_attempt_only_when_it_keeps_happening() -> None:
    task, delays = TaskFactory(status="in_progress"), []
    for number in range(faults.MAX_FAULTS + 1):
        left = end(task)
        delays.append((left.next_attempt_at - NOW).total_seconds())
        assert (left.status, left.attempts) == ("ready", 0 if number < faults.MAX_FAULTS else 1)
        assert ("failure" in left.context) == (number == faults.MAX_FAULTS)
        Task.objects.filter(pk=task.pk).update(status="allocated")
        Task.objects.filter(pk=task.pk).update(status="in_progress")

    assert delays[:5] == [30, 60, 120, 240, 480]


def test_another_end_in_between_begins_the_count_anew() -> None:
    task = TaskFactory(status="in_progress")
    for _ in range(faults.MAX_FAULTS):
        RunFactory(status="failed", reason=faults.PLATFORM_ERROR, task=task)
    RunFactory(status="failed", reason="tests_failed", task=task)

    assert end(task).attempts == 0
