import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from agents.actions import leases, runs
from agents.actions.recovery import end_lost_runs, requeue
from agents.actions.runs import Ending
from agents.errors import LeaseLost, UnknownToken
from agents.models import Run
from agents.queries import run_by_token
from agents.states import ACTIVE_RUN, AgentStatus, RunStatus
from projects.errors import IllegalTransition, StaleState
from projects.models import AuditLog, Task
from projects.states import TaskStatus
from tests.factories import NOW, TESTER, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(seconds=10)


def claim(run: Run, owner: str = "here") -> tuple[Run, str]:
    token = leases.hold_run(run, owner=owner, prompt_version_id=None, now=NOW)
    leases.claim_run(run, now=NOW)
    return run, token


def test_claim_takes_the_lease_and_gives_a_token() -> None:
    run, token = claim(RunFactory())

    assert (run.status, run.lease_owner) == (RunStatus.STARTING, "here")
    assert run.lease_until > NOW
    assert run.task.status == TaskStatus.IN_PROGRESS
    assert run_by_token(token) == run
    assert token not in Run.objects.values_list("token_hash", flat=True)


def test_claim_is_refused_to_the_second() -> None:
    run = RunFactory()
    claim(run)

    with pytest.raises(LeaseLost):
        claim(run, owner="elsewhere")


def test_a_run_that_is_held_is_nobody_elses() -> None:
    run = RunFactory()
    leases.hold_run(run, owner="here", prompt_version_id=None, now=NOW)

    with pytest.raises(LeaseLost):
        claim(Run.objects.get(pk=run.pk), owner="elsewhere")
    assert requeue(now=LATER) == []
    assert leases.renew_leases([run.pk], owner="here", now=NOW) == {run.pk: ("", False)}


def test_a_held_run_that_was_stopped_is_not_claimed() -> None:
    run = RunFactory()
    leases.hold_run(run, owner="here", prompt_version_id=None, now=NOW)
    runs.ask_to_stop(run.project, reason="paused", by=TESTER, now=NOW)

    with pytest.raises(LeaseLost):
        leases.claim_run(run, now=NOW)
    run.refresh_from_db()
    assert (run.status, run.token_hash) == (RunStatus.CANCELLED, "")


def test_a_held_run_whose_supervisor_died_is_lost() -> None:
    run = RunFactory()
    leases.hold_run(run, owner="here", prompt_version_id=None, now=NOW)

    assert end_lost_runs(now=NOW + timedelta(seconds=19)) == []
    assert end_lost_runs(now=NOW + timedelta(seconds=21)) == [run]
    run.task.refresh_from_db()
    assert (run.task.status, run.task.attempts) == (TaskStatus.READY, 0)


def test_claim_of_a_run_that_nobody_holds_is_refused() -> None:
    with pytest.raises(LeaseLost):
        leases.claim_run(RunFactory(), now=NOW)


def test_many_are_held_at_once_but_those_that_others_have() -> None:
    mine, theirs, ended = RunFactory(), RunFactory(), RunFactory(status="failed")
    leases.hold_run(Run.objects.get(pk=theirs.pk), owner="elsewhere", prompt_version_id=None, now=NOW)

    held = leases.hold_runs([mine, theirs, ended], owner="here", now=NOW)

    assert [one.run for one in held] == [mine]
    assert run_by_token(held[0].token) == mine
    theirs.refresh_from_db()
    assert theirs.lease_owner == "elsewhere"


def test_many_are_claimed_in_one_transaction(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    held = leases.hold_runs(RunFactory.create_batch(2), owner="here", now=NOW)
    with CaptureQueriesContext(connection) as of_two:
        leases.claim_runs([one.run for one in held], now=NOW)
    held = leases.hold_runs(RunFactory.create_batch(9), owner="here", now=NOW)

    with django_assert_num_queries(len(of_two)):
        begun = leases.claim_runs([one.run for one in held], now=NOW)

    assert begun == [one.run for one in held]
    assert {(run.status, run.task.status) for run in Run.objects.select_related("task")} == {
        (RunStatus.STARTING, TaskStatus.IN_PROGRESS)
    }
    claimed = AuditLog.objects.filter(action="run.claimed").values_list("object_id", flat=True)
    assert {str(run.pk) for run in begun} <= set(claimed)


def test_of_many_those_are_claimed_that_are_held_still() -> None:
    mine, stopped, lost, nobodys = RunFactory.create_batch(4)
    held = [one.run for one in leases.hold_runs([mine, stopped, lost], owner="here", now=NOW)]
    runs.ask_to_stop(stopped.project, reason="paused", by=TESTER, now=NOW)
    Run.objects.filter(pk=lost.pk).update(lease_owner="elsewhere")

    assert leases.claim_runs([*held, nobodys], now=NOW) == [mine]

    assert Run.objects.filter(status=RunStatus.STARTING).get() == mine


@pytest.mark.django_db(transaction=True)
def test_what_somebody_has_just_now_is_left_out_and_not_waited_for() -> None:
    free, busy, of_busy_task = RunFactory.create_batch(3)
    held = [one.run for one in leases.hold_runs([free, busy, of_busy_task], owner="here", now=NOW)]
    claimed: list[Run] = []

    def claim_all() -> None:
        try:
            claimed.extend(leases.claim_runs(held, now=NOW))
        finally:
            connection.close()

    with transaction.atomic():
        Run.objects.select_for_update().get(pk=busy.pk)
        Task.objects.select_for_update().get(pk=of_busy_task.task_id)
        thread = threading.Thread(target=claim_all)
        thread.start()
        thread.join(30)

    assert claimed == [free]
    leases.claim_run(held[1], now=NOW)
    assert Run.objects.filter(status=RunStatus.STARTING).count() == 2


def test_renew_extends_only_what_the_owner_holds() -> None:
    mine = RunFactory(status="running", lease_owner="here")
    theirs = RunFactory(status="running", lease_owner="elsewhere")
    ended = RunFactory(status="failed", lease_owner="here")

    kept = leases.renew_leases([mine.pk, theirs.pk, ended.pk], owner="here", now=LATER)

    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert kept == {mine.pk: ("", False)}
    assert mine.lease_until == LATER + timedelta(seconds=20)
    assert theirs.lease_until == NOW + timedelta(seconds=20)


def test_renew_tells_who_is_asked_to_stop() -> None:
    run = RunFactory(status="running", lease_owner="here", stop_requested="paused")

    assert leases.renew_leases([run.pk], owner="here", now=LATER) == {run.pk: ("paused", False)}


def test_succeed_completes_the_task_and_kills_the_token() -> None:
    run, token = claim(RunFactory())
    runs.begin_running(run, base_commit="a" * 40, working_dir="/w", now=NOW)

    runs.succeed(run, result={"commit": "b" * 40}, now=LATER)

    assert (run.status, run.task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED)
    assert run.task.result == {"commit": "b" * 40}
    run.agent.refresh_from_db()
    assert run.agent.status == AgentStatus.READY
    with pytest.raises(UnknownToken):
        run_by_token(token)


def test_fail_sets_the_task_back_with_what_went_wrong() -> None:
    run = RunFactory(status="running")
    ending = Ending(RunStatus.FAILED, "tests_failed", "2 failed", {"failure": {"reason": "tests_failed"}})

    runs.fail(run, ending, now=NOW)

    task = run.task
    task.refresh_from_db()
    assert (task.status, task.attempts, task.reason) == (TaskStatus.READY, 1, "tests_failed")
    assert task.context == {"failure": {"reason": "tests_failed"}}
    assert task.next_attempt_at > NOW


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (RunStatus.FAILED, "agent.failed"),
        (RunStatus.LOST, "agent.failed"),
        (RunStatus.CANCELLED, "agent.stopped"),
        (RunStatus.OVER_BUDGET, "agent.stopped"),
    ],
)
def test_an_agent_whose_run_was_only_stopped_did_not_fail(status: RunStatus, action: str) -> None:
    run = RunFactory(status="running")

    runs.fail(run, Ending(status, "paused", "", counts=False), now=NOW)

    row = AuditLog.objects.get(action__in=["agent.failed", "agent.stopped"])
    assert (row.action, row.agent_id, row.details["reason"]) == (action, run.agent_id, "paused")
    run.agent.refresh_from_db()
    assert run.agent.status == AgentStatus.READY


def test_fail_that_does_not_count_uses_no_attempt() -> None:
    run = RunFactory(status="running")

    runs.fail(run, Ending(RunStatus.LOST, "lease_expired", "gone", counts=False, delay=timedelta(0)), now=NOW)

    run.task.refresh_from_db()
    assert (run.task.attempts, run.task.next_attempt_at) == (0, NOW)


def test_fail_of_the_work_itself_begins_anew_and_not_from_what_was_saved() -> None:
    context = {"checkpoint": "refs/eklavya/checkpoints/r/1", "resume": "Half is done."}
    run = RunFactory(status="evaluating", task=TaskFactory(status="review", context=context))

    runs.fail(run, Ending(RunStatus.FAILED, "tests_failed", "2 failed"), now=NOW)

    run.task.refresh_from_db()
    assert run.task.context == {"checkpoint": None, "resume": None}


def test_begin_merge_is_refused_when_the_task_was_cancelled() -> None:
    run = RunFactory(status="evaluating", task=TaskFactory(status="cancelled"))

    with pytest.raises(StaleState):
        runs.begin_merge(run, merge_commit="a" * 40, now=NOW)

    run.refresh_from_db()
    assert (run.status, run.merge_commit) == (RunStatus.EVALUATING, "")


def test_fail_blocks_the_task_when_its_attempts_are_used_up() -> None:
    run = RunFactory(status="running", task=TaskFactory(status="in_progress", attempts=2))

    runs.fail(run, Ending(RunStatus.FAILED, "no_outcome", "silent"), now=NOW)

    run.task.refresh_from_db()
    assert run.task.status == TaskStatus.BLOCKED
    assert run.task.approvals.get().kind == "blocked_task"


def test_an_ended_run_cannot_end_again() -> None:
    run = RunFactory(status="failed")

    with pytest.raises(IllegalTransition):
        runs.succeed(run, result={}, now=NOW)


def test_ask_to_stop_marks_running_and_ends_queued() -> None:
    running = RunFactory(status="running")
    queued = RunFactory(task=TaskFactory(project=running.project, status="allocated"))

    assert runs.ask_to_stop(running.project, reason="paused", by=TESTER, now=NOW) == 2

    running.refresh_from_db()
    queued.refresh_from_db()
    assert (running.status, running.stop_requested) == (RunStatus.RUNNING, "paused")
    assert (queued.status, queued.reason) == (RunStatus.CANCELLED, "paused")
    queued.task.refresh_from_db()
    assert queued.task.status == TaskStatus.READY


@pytest.mark.parametrize("status", ["running", "queued"])
def test_the_audit_log_says_which_run_a_person_stopped(status: str) -> None:
    run = RunFactory(task=TaskFactory(status="allocated"), status=status)
    other = RunFactory(task=TaskFactory(project=run.project, status="allocated"), status=status)

    runs.stop_run(run, by=TESTER, now=NOW)

    row = AuditLog.objects.get(action="run.stop_requested")
    assert (row.actor_name, row.object_type, row.object_id) == (TESTER.name, "run", str(run.pk))
    assert (row.project_id, row.agent_id, row.details) == (run.project_id, run.agent_id, {"reason": "stopped"})
    other.refresh_from_db()
    assert (other.status, other.stop_requested) == (status, "")


@pytest.mark.parametrize("status", sorted(set(RunStatus) - ACTIVE_RUN - {RunStatus.SUCCEEDED}))
def test_every_bad_ending_leaves_an_audit_row(status: RunStatus) -> None:
    run = RunFactory(status="running")

    runs.fail(run, Ending(status, "why", "because"), now=NOW)

    row = AuditLog.objects.get(action="run.ended", object_id=str(run.pk))
    assert (row.details["status"], row.details["reason"]) == (status, "why")
