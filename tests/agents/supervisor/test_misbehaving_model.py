"""What a model, or the way to it, can do wrong, and how the run ends."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from pytest_django import Settings

from agents.actions import faults
from agents.models import Run, RunEvent
from agents.states import RunStatus
from agents.supervisor import claiming, progress, supervise
from agents.supervisor.keeper import LeaseKeeper
from projects.models import AuditLog, Notification, SquadMember, Task
from projects.roles import Role
from projects.states import TaskKind, TaskStatus
from tests.agents.supervisor.line import (
    assert_nothing_is_left,
    attempt,
    is_ready_again,
    seed,
    task_of,
    transcript_of,
)

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]


def quick(order: str, **fields: object) -> Task:
    """A task of two requests to the model, at which it misbehaves."""
    task = task_of(TaskKind.BUILD, Role.PM, key="guide", order=order, **fields)
    seed(task.project)
    return task


def assert_failed(task: Task, keeper: LeaseKeeper, reason: str, sentence: str) -> list[RunEvent]:
    """One run of the task fails for this reason, says so wherever people look, and leaves nothing."""
    run = attempt(task, keeper)

    assert (run.status, run.reason) == (RunStatus.FAILED, reason), run.detail
    assert sentence in run.detail
    assert is_ready_again(task, attempts=1)
    assert (task.reason, task.detail) == (reason, run.detail)
    assert task.context["failure"]["reason"] == reason
    assert AuditLog.objects.filter(action="run.ended", object_id=str(run.pk), details__reason=reason).count() == 1
    assert_nothing_is_left(run)
    lines = transcript_of(run)
    assert lines[-1].kind == "error"
    return lines


@pytest.mark.parametrize(
    "order", ["garbage", "garbage mode=input", "cut", "429 for=1", "529", "500", "slow delay=0.01"]
)
def test_what_passes_is_lived_through(keeper: LeaseKeeper, order: str) -> None:
    task = quick(order)

    run = attempt(task, keeper)

    assert (run.status, task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED), run.detail
    assert_nothing_is_left(run)
    transcript_of(run)


def test_a_stream_that_stalls_is_ended(keeper: LeaseKeeper, settings: Settings) -> None:
    settings.EKLAVYA_STALL_SECONDS = 2

    assert_failed(quick("stall after=1"), keeper, "stalled", "said nothing for 2 seconds")


@pytest.mark.parametrize("order", ["429 times=1000", "529 times=1000", "cut times=1000"])
def test_what_does_not_pass_ends_within_the_time(
    keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(supervise, "MINUTE_S", 3.0)
    task = quick(order)
    SquadMember.objects.update(max_minutes=1)

    assert_failed(task, keeper, "wall_clock", "did not finish within")


def test_a_model_that_stays_away_costs_no_attempt(keeper: LeaseKeeper) -> None:
    task = quick("429 for=600")

    run = attempt(task, keeper)

    assert (run.status, run.reason) == (RunStatus.FAILED, "model_outage"), run.detail
    assert "has not answered since" in run.detail
    assert "rate limit" in run.detail
    assert is_ready_again(task, attempts=0)
    told = Notification.objects.get(project=task.project, level="warning")
    assert (told.title, told.message) == ("The model does not answer", run.detail)
    assert_nothing_is_left(run)


def test_garbage_ends_at_once(keeper: LeaseKeeper) -> None:
    assert_failed(quick("garbage times=1000"), keeper, "model_error", "API Error")


def test_endless_tool_calls_are_ended_by_the_gateway(keeper: LeaseKeeper) -> None:
    task = quick("loop")
    SquadMember.objects.update(max_turns=4)

    assert_failed(task, keeper, "turn_limit", "all its requests")

    assert task.runs.get().turns == 4


def test_an_agent_that_goes_in_circles_is_ended_and_tried_again_once(keeper: LeaseKeeper, settings: Settings) -> None:
    settings.EKLAVYA_LOOP_CALLS = 3
    task = quick("loop")

    assert_failed(task, keeper, "looping", "3 times in a row")

    again = attempt(task, keeper)
    assert (again.reason, task.status, task.approvals.count()) == ("looping", TaskStatus.BLOCKED, 1)
    assert list(task.recoveries.order_by("id").values_list("decision", flat=True)) == ["retry", "recovery_itself"]
    assert_nothing_is_left(again)


def test_an_agent_that_changes_no_file_is_ended(
    keeper: LeaseKeeper, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EKLAVYA_LOOP_CALLS, settings.EKLAVYA_NO_DIFF_MINUTES = 0, 0.02
    monkeypatch.setattr(progress, "LOOK_EVERY", timedelta(0))

    assert_failed(quick("loop"), keeper, "no_diff", "changed no file for 0.02 minutes")


def test_no_ending_verb_is_asked_for_twice(keeper: LeaseKeeper) -> None:
    lines = assert_failed(quick("silent"), keeper, "no_outcome", "without saying how the task ended")

    reminders = [line for line in lines if line.kind == "message"]
    assert [line.payload["from"] for line in reminders] == ["platform", "platform"]


def test_an_agent_that_gives_up_has_its_task_tried_again(keeper: LeaseKeeper) -> None:
    task = quick("fail")

    run = attempt(task, keeper)

    assert (run.status, run.reason, run.detail) == (RunStatus.FAILED, "agent_gave_up", "The task was ordered to fail.")
    assert is_ready_again(task, attempts=1)
    assert_nothing_is_left(run)


def test_an_agent_that_gave_up_for_want_of_an_answer_is_not_to_blame(
    keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway notes it with the outcome; here the supervisor finds it noted."""
    task, look = quick("fail"), claiming.reload_run

    def noted(run_id: UUID) -> Run:
        if look(run_id).outcome:
            faults.excuse(look(run_id))
        return look(run_id)

    monkeypatch.setattr(supervise, "reload_run", noted)
    run = attempt(task, keeper)

    assert (run.status, run.reason, run.detail) == (RunStatus.FAILED, "platform_error", "The task was ordered to fail.")
    assert is_ready_again(task, attempts=0)
    assert_nothing_is_left(run)


BROKEN = """
CREATE FUNCTION breaks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left'; END $$;
CREATE TRIGGER breaks BEFORE UPDATE OF outcome ON agents_run
    FOR EACH ROW WHEN (new.outcome <> '{}') EXECUTE FUNCTION breaks();
"""


@pytest.fixture
def _nothing_is_taken_in() -> Iterator[None]:
    """The gateway, which is another process, fails at each verb that ends a run."""
    with connection.cursor() as cursor:
        cursor.execute(BROKEN)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION breaks CASCADE")


@pytest.mark.usefixtures("_nothing_is_taken_in")
def test_an_agent_that_could_not_hand_in_for_want_of_an_answer_is_not_to_blame(keeper: LeaseKeeper) -> None:
    task = quick("")

    run = attempt(task, keeper)

    assert (run.status, run.reason) == (RunStatus.FAILED, "platform_error"), run.detail
    assert "did not answer" in run.detail
    assert is_ready_again(task, attempts=0)
    assert_nothing_is_left(run)


@pytest.mark.parametrize("order", ["block", "ask"])
def test_an_agent_that_is_stuck_gets_the_mentors_advice(keeper: LeaseKeeper, order: str) -> None:
    task = quick(order)

    run = attempt(task, keeper)

    assert (run.status, run.reason, task.status, task.attempts) == ("succeeded", "awaiting_mentor", "blocked", 0)
    assert_nothing_is_left(run)
    mentor_task = Task.objects.get(kind=TaskKind.MENTOR)
    attempt(mentor_task, keeper)
    assert is_ready_again(task, attempts=0)
    again = attempt(task, keeper)
    assert (again.status, again.agent_id, task.status) == ("succeeded", run.agent_id, "completed"), again.detail


def test_an_agent_that_is_stuck_after_the_advice_asks_a_person(keeper: LeaseKeeper) -> None:
    task = quick("block times=9", context={"mentor": [{"question": "?", "reply": "Try."}]})

    run = attempt(task, keeper)

    assert (run.reason, task.status) == ("blocked", TaskStatus.BLOCKED)
    approval = task.approvals.get()
    assert (approval.kind, approval.status, approval.body) == ("blocked_task", "pending", run.detail)
    assert task.project.notifications.filter(title=approval.title).exists()
