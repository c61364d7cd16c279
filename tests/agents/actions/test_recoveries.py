"""One second try for each failure, never one of a second try, within caps, and switched off where somebody says so."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from agents.actions import recoveries, recovery
from agents.actions.recoveries import decide, fingerprint_of
from agents.models import Recovery, Run
from agents.states import RunStatus
from projects.models import AuditLog, Task
from projects.states import TaskStatus
from tests.factories import NOW, RunEventFactory, RunFactory, TaskFactory
from tests.projects.test_concurrency import until_somebody_waits

pytestmark = pytest.mark.django_db
SAID = "The agent said nothing for 300 seconds."


def failed(task: Task, attempt: int) -> Run:
    run: Run = RunFactory(status="failed", task=task, attempt=attempt)
    return run


def decisions(task: Task) -> list[str]:
    return list(task.recoveries.order_by("created_at", "id").values_list("decision", flat=True))


def test_equal_failures_have_one_fingerprint() -> None:
    assert fingerprint_of("stalled", SAID) == fingerprint_of("stalled", SAID.replace("300", "2"))
    assert len({fingerprint_of("stalled", SAID), fingerprint_of("looping", SAID), fingerprint_of("stalled", "x")}) == 3


def test_a_failure_is_recovered_once_and_the_decision_stays() -> None:
    task = TaskFactory(status="in_progress")
    first = failed(task, 1)

    assert decide(first, "stalled", SAID, now=NOW)
    assert decide(first, "stalled", SAID, now=NOW)  # the step was repeated
    assert decisions(task) == ["retry"]
    assert AuditLog.objects.get(action="recovery.decided").details["decision"] == "retry"

    assert not decide(failed(task, 5), "stalled", SAID, now=NOW)
    assert decisions(task) == ["retry", "same_again"]


def test_a_recovery_is_never_recovered_whatever_it_failed_of() -> None:
    task = TaskFactory(status="in_progress")
    assert decide(failed(task, 1), "stalled", SAID, now=NOW)

    assert not decide(failed(task, 2), "looping", "The agent made the same calls.", now=NOW)
    assert decisions(task) == ["retry", "recovery_itself"]


def test_a_task_has_so_many_recoveries(settings: Settings) -> None:
    settings.EKLAVYA_RECOVERIES_PER_TASK = 2
    task = TaskFactory(status="in_progress")

    got = [decide(failed(task, 2 * n + 1), "looping", f"of {'abc'[n]}", now=NOW) for n in range(3)]

    assert got == [True, True, False]
    assert decisions(task)[-1] == "task_cap"


def test_all_tasks_together_have_so_many_in_an_hour(settings: Settings) -> None:
    settings.EKLAVYA_RECOVERIES_PER_HOUR = 1
    one, two, three = (failed(TaskFactory(status="in_progress"), 1) for _ in range(3))

    assert decide(one, "stalled", SAID, now=NOW)
    assert not decide(two, "stalled", SAID, now=NOW + timedelta(minutes=59))
    assert decisions(two.task) == ["account_cap"]
    assert decide(three, "stalled", SAID, now=NOW + timedelta(minutes=61))


def test_each_kind_has_a_switch(settings: Settings) -> None:
    settings.EKLAVYA_RECOVER = ["looping"]
    one, two = (failed(TaskFactory(status="in_progress"), 1) for _ in range(2))

    assert not decide(one, "stalled", SAID, now=NOW)
    assert decisions(one.task) == ["switched_off"]
    assert decide(two, "looping", SAID, now=NOW)


def test_the_database_holds_that_a_failure_is_recovered_once() -> None:
    task = TaskFactory(status="in_progress")
    same = {"project": task.project, "task": task, "reason": "stalled", "fingerprint": "f" * 64, "created_at": NOW}
    Recovery.objects.create(run=failed(task, 1), decision="retry", **same)

    Recovery.objects.create(run=failed(task, 2), decision="same_again", **same)
    with pytest.raises(IntegrityError), transaction.atomic():
        Recovery.objects.create(run=failed(task, 3), decision="retry", **same)


LONG_AGO = NOW + timedelta(minutes=12)


def silent_run() -> Run:
    """A run that spoke once, whose lease somebody renews."""
    run: Run = RunFactory(status="running", started_at=NOW, last_seq=1, lease_until=LONG_AGO + timedelta(minutes=5))
    RunEventFactory(run=run, seq=1, created_at=NOW)
    return run


def test_a_supervisor_that_hangs_loses_its_run() -> None:
    silent, talking, new = silent_run(), silent_run(), silent_run()
    RunEventFactory(run=talking, seq=2, created_at=LONG_AGO)
    Run.objects.filter(pk=talking.pk).update(last_seq=2)
    Run.objects.filter(pk=new.pk).update(started_at=LONG_AGO)
    evaluating = RunFactory(status="evaluating", started_at=NOW, lease_until=LONG_AGO + timedelta(minutes=5))

    assert recovery.end_silent_runs(now=NOW + timedelta(minutes=10)) == []
    assert recovery.end_silent_runs(now=LONG_AGO) == [silent.pk]
    assert recovery.end_silent_runs(now=LONG_AGO) == []

    silent.refresh_from_db()
    task = Task.objects.get(pk=silent.task_id)
    assert (silent.status, silent.reason, task.status) == (RunStatus.LOST, "supervisor_silent", TaskStatus.READY)
    assert task.attempts == 1
    for run in (talking, new, evaluating):
        assert Run.objects.get(pk=run.pk).is_active


def test_a_person_is_asked_where_no_second_try_is_left(settings: Settings) -> None:
    settings.EKLAVYA_RECOVER = []
    silent = silent_run()

    recovery.end_silent_runs(now=LONG_AGO)

    task = Task.objects.get(pk=silent.task_id)
    assert (task.status, task.reason) == (TaskStatus.BLOCKED, "supervisor_silent")
    assert task.approvals.get().status == "pending"
    assert recoveries.decide(silent, "supervisor_silent", "", now=LONG_AGO) is False


@pytest.mark.django_db(transaction=True)
def test_the_sweep_and_the_supervisor_of_a_run_decide_at_the_same_time() -> None:
    """Whoever comes second waits, and finds the decision: neither waits for what the other holds."""
    run = failed(TaskFactory(status="in_progress"), 1)

    def decide_too() -> bool:
        try:
            return decide(run, "stalled", SAID, now=NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Run.objects.select_for_update().get(pk=run.pk)  # as the sweep does
            other = pool.submit(decide_too)
            until_somebody_waits()
            assert decide(run, "supervisor_silent", "Its supervisor said nothing.", now=NOW)
        assert other.result(timeout=60)
    assert Recovery.objects.get().reason == "supervisor_silent"
