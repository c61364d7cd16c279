"""Runs that the platform itself fails: a disk that is full, Git that takes too long, a sandbox that does not start."""

from datetime import timedelta

import pytest

from agents.actions import faults
from agents.gateway.unserved import AWAY, BROKEN, ELSEWHERE
from agents.models import Run
from agents.supervisor import supervise
from agents.supervisor.keeper import Stop
from projects import audit
from projects.models import Task
from tests.factories import NOW, TESTER, RunEventFactory, RunFactory, TaskFactory

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


def handed_in(content: str = AWAY, *, is_error: bool = True, verb: str = "task_complete") -> Run:
    """A run whose agent called the verb, and what came of it."""
    run: Run = RunFactory(status="running")
    RunEventFactory(
        run=run,
        seq=1,
        created_at=NOW,
        kind="tool_use",
        payload={"id": "c1", "name": f"mcp__eklavya__{verb}", "input": {}},
    )
    told = {"id": "c1", "content": content, "is_error": is_error}
    RunEventFactory(run=run, seq=2, created_at=NOW, kind="tool_result", payload=told)
    return run


def refuse(run: Run, **details: object) -> None:
    with audit.journal(by=TESTER, now=NOW) as journal:
        journal.add("mcp.refused", project_id=run.project_id, obj=run, details={"verb": "task_complete", **details})


# As the agent's program says that the gateway answered 503.
AS_STATUS = f'Error POSTing to endpoint: {{"jsonrpc":"2.0","id":null,"error":{{"code":-32600,"message":"{AWAY}"}}}}'


@pytest.mark.parametrize("told", [AWAY, AS_STATUS, BROKEN, ELSEWHERE])
def test_who_handed_in_and_got_no_answer_is_not_to_blame(told: str) -> None:
    run = handed_in(told)
    assert faults.was_unanswered(run)
    refuse(run, unserved=True)
    assert faults.was_unanswered(run)


@pytest.mark.parametrize(
    "told",
    [
        # Its second refusal for one reason has no row of its own.
        'Error POSTing to endpoint: {"error":{"code":-32600,"message":"A request has at most 4,194,304 bytes."}}',
        "<tool_use_error>InputValidationError: summary is missing</tool_use_error>",
        "Claude requested permissions to use mcp__eklavya__task_complete, but you haven't granted it yet.",
        f"<tool_use_error>InputValidationError: {AWAY}</tool_use_error>",
    ],
)
def test_who_was_told_something_else_is(told: str) -> None:
    assert not faults.was_unanswered(handed_in(told))


def test_who_was_refused_and_makes_up_that_the_platform_is_away_is() -> None:
    run = handed_in()
    with audit.journal(by=TESTER, now=NOW - timedelta(hours=1)) as journal:
        journal.add("mcp.refused", project_id=run.project_id, obj=run, details={"verb": "task_complete"})
    assert not faults.was_unanswered(run)


def test_who_is_refused_by_a_rule_or_did_not_hand_in_is() -> None:
    refused, limited = handed_in(), handed_in()
    refuse(refused)
    with audit.journal(by=TESTER, now=NOW) as journal:
        journal.add("mcp.rate_limited", project_id=limited.project_id, obj=limited)

    others = (handed_in(is_error=False), handed_in(verb="submit_plan"), RunFactory(status="running"))
    assert not any(map(faults.was_unanswered, (refused, limited, *others)))
