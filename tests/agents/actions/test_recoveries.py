"""One second try for each failure, never one of a second try, within caps, and switched off where somebody says so."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from agents.actions import recoveries, recovery, runs
from agents.actions.recoveries import GOES_ON, REASONS, fingerprint_of
from agents.actions.runs import Ending
from agents.endings import WAYS, Remedy
from agents.models import Recovery, Run
from agents.states import RunStatus
from projects.actions import steering
from projects.models import AuditLog, Task
from projects.states import TaskStatus
from tests.factories import NOW, TESTER, RunEventFactory, RunFactory, TaskFactory
from tests.projects.test_concurrency import until_somebody_waits

pytestmark = pytest.mark.django_db
SAID = "The agent said nothing for 300 seconds."


def failed(task: Task, attempt: int) -> Run:
    run: Run = RunFactory(status="failed", task=task, attempt=attempt)
    return run


def decide(run: Run, reason: str, detail: str, *, now: datetime) -> bool:
    return recoveries.decide(run, reason, detail, now=now) in GOES_ON


def decisions(task: Task) -> list[str]:
    return list(task.recoveries.order_by("created_at", "id").values_list("decision", flat=True))


def test_equal_failures_have_one_fingerprint() -> None:
    assert fingerprint_of("stalled", SAID) == fingerprint_of("stalled", SAID.replace("300", "2"))
    assert len({fingerprint_of("stalled", SAID), fingerprint_of("looping", SAID), fingerprint_of("stalled", "x")}) == 3


def test_what_varies_is_no_other_failure_and_what_failed_is() -> None:
    said = "FAIL at 0x7f3a, port 8123, run 01a20232-594b-7901-bdde-f80aa2d53898 in 0.31s"
    again = "FAIL at 0x7fbb, port 9, run 77a20232-594b-7901-bdde-f80aa2d538ff in 12s"
    assert fingerprint_of("tests_failed", said) == fingerprint_of("tests_failed", again)
    assert fingerprint_of("tests_failed", said) != fingerprint_of("tests_failed", said.replace("FAIL", "ERROR"))
    assert fingerprint_of("lease_expired", said, "a:1:2") != fingerprint_of("lease_expired", said, "a:2:2")


FAILURES = sorted(reason for reason, way in WAYS.items() if way.has_switch)


def fail(task: Task, reason: str, detail: str = "It did.", *, counts: bool = True) -> Task:
    """Have one more run of a task end so; return the task."""
    task = Task.objects.get(pk=task.pk)
    if task.status == TaskStatus.READY:
        Task.objects.filter(pk=task.pk).update(status="allocated")
        Task.objects.filter(pk=task.pk).update(status="in_progress")
    run = RunFactory(status="running", task=Task.objects.get(pk=task.pk))
    runs.fail(run, Ending(RunStatus.FAILED, reason, detail, counts=counts), now=NOW)
    return Task.objects.get(pk=task.pk)


def new_task() -> Task:
    made: Task = TaskFactory(status="in_progress", project__status="building")
    return made


@pytest.mark.parametrize("reason", FAILURES)
def test_no_failure_is_recovered_twice_in_the_same_way(reason: str) -> None:
    is_free = WAYS[reason].remedy is Remedy.FREE
    task = fail(new_task(), reason, counts=not is_free)
    assert (task.status, task.recoveries.get().decision) == (TaskStatus.READY, "retry")

    task = fail(task, reason, counts=not is_free)

    if is_free:  # nobody's fault: the one recovery goes on
        assert (task.status, task.attempts, decisions(task)) == (TaskStatus.READY, 0, ["retry", "continued"])
        task = fail(task, reason)  # as often as the table says
        assert (task.status, task.attempts, decisions(task)[2]) == (TaskStatus.READY, 1, "retry")
        task = fail(task, reason)
    assert (task.status, task.approvals.get().status) == (TaskStatus.BLOCKED, "pending")
    assert decisions(task)[-1] == ("recovery_itself" if reason in REASONS else "same_again")
    assert "was tried again for it" in task.detail or "second try" in task.detail


@pytest.mark.parametrize("reason", sorted(WAYS.keys() - set(FAILURES)))
def test_what_is_no_failure_is_no_recovery(reason: str) -> None:
    task = fail(new_task(), reason, counts=False)
    assert (task.status, task.attempts, decisions(task)) == (TaskStatus.READY, 0, [])


def test_a_task_that_fails_otherwise_each_time_has_three_attempts() -> None:
    task = new_task()
    for number in range(3):
        task = fail(task, "tests_failed", f"test_{'abc'[number]} failed")
    assert (task.status, task.attempts) == (TaskStatus.BLOCKED, 3)
    assert decisions(task) == ["retry", "retry", "attempts_used"]


def test_all_failures_together_are_recovered_so_often_in_an_hour(settings: Settings) -> None:
    settings.EKLAVYA_RESTARTS_PER_HOUR = 1
    assert fail(new_task(), "tests_failed").status == TaskStatus.READY
    other = fail(new_task(), "lease_expired", counts=False)
    assert (other.status, decisions(other)) == (TaskStatus.BLOCKED, ["account_cap"])


def test_a_machine_that_dies_again_is_another_failure() -> None:
    task = new_task()
    for owner in ("atlas:1:100", "atlas:2:200"):
        Task.objects.filter(pk=task.pk, status="ready").update(status="allocated")
        Task.objects.filter(pk=task.pk, status="allocated").update(status="in_progress")
        lost = RunFactory(status="running", task=Task.objects.get(pk=task.pk), lease_owner=owner, lease_until=NOW)
        (ended,) = recovery.end_lost_runs(now=NOW + timedelta(seconds=1))
        assert ended.pk == lost.pk
    assert decisions(task) == ["retry", "retry"]
    assert Task.objects.get(pk=task.pk).attempts == 0


def test_every_task_that_goes_back_is_decided_about() -> None:
    """`runs.fail` is the only one that has a task tried again after a run: nothing goes past the decisions."""
    agents = Path(runs.__file__).parents[1]
    callers = [path.name for path in agents.rglob("*.py") if "tasks.set_back(" in path.read_text(encoding="utf-8")]
    assert callers == ["runs.py"]


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
    assert not decide(silent, "supervisor_silent", "", now=LONG_AGO)


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


# -- after a person's answer


def answer_retry(task: Task) -> Task:
    steering.retry_task(Task.objects.select_related("project").get(pk=task.pk), by=TESTER, now=NOW)
    return Task.objects.get(pk=task.pk)


def test_failures_count_afresh_from_a_persons_answer() -> None:
    task = fail(fail(new_task(), "tests_failed"), "tests_failed")
    assert task.status == TaskStatus.BLOCKED
    task = fail(answer_retry(task), "tests_failed")
    assert task.status == TaskStatus.READY, decisions(task)


def test_losses_count_afresh_from_a_persons_answer() -> None:
    task = new_task()
    for number in range(8):
        Task.objects.filter(pk=task.pk, status="ready").update(status="allocated")
        Task.objects.filter(pk=task.pk, status="allocated").update(status="in_progress")
        RunFactory(status="running", task=Task.objects.get(pk=task.pk), lease_owner=f"a:{number}:1", lease_until=NOW)
        recovery.end_lost_runs(now=NOW + timedelta(seconds=1))
        task = Task.objects.get(pk=task.pk)
        if task.status == TaskStatus.BLOCKED:
            break
    assert task.status == TaskStatus.BLOCKED
    task = answer_retry(task)
    Task.objects.filter(pk=task.pk).update(status="allocated")
    Task.objects.filter(pk=task.pk).update(status="in_progress")
    RunFactory(status="running", task=Task.objects.get(pk=task.pk), lease_owner="b:1:1", lease_until=NOW)
    recovery.end_lost_runs(now=NOW + timedelta(seconds=1))
    assert Task.objects.get(pk=task.pk).status == TaskStatus.READY, (number, decisions(task))


def test_long_detail_is_read_in_one_go() -> None:
    """It took hours, and a supervisor with it, when each place was looked at anew from every other."""
    assert fingerprint_of("agent_gave_up", "a-" * 200_000) != fingerprint_of("agent_gave_up", "b-" * 200_000)
