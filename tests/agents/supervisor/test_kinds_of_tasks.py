"""One run of each kind of task, done well: what it leaves in the rows, in Git and on the machine."""

from typing import Any

import pytest

from agents.models import Run, Verification
from agents.rehearsal import builder
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor.keeper import LeaseKeeper
from billing.queries import project_cost
from projects.models import AuditLog, Task
from projects.roles import Role
from projects.states import TaskKind, TaskStatus
from tests.agents.supervisor.line import (
    BRIEF,
    assert_nothing_is_left,
    attempt,
    seed,
    task_of,
    transcript_of,
)

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]
BLOCKED = {"status": TaskStatus.BLOCKED, "reason": "awaiting_mentor", "detail": "Which database?"}


def assert_done(run: Run) -> None:
    """It succeeded and all of it is accounted for."""
    assert (run.status, run.reason, run.outcome["verb"] != "") == (RunStatus.SUCCEEDED, "completed", True), run.detail
    assert (run.task.status, run.task.progress) == (TaskStatus.COMPLETED, 100)
    assert run.agent.status == "ready"
    kinds = [line.kind for line in transcript_of(run)]
    assert (kinds[0], kinds[-1]) == ("system", "result")
    assert {"text", "tool_use", "tool_result"} <= set(kinds)
    assert kinds.count("tool_use") == kinds.count("tool_result")
    assert run.turns > 0
    assert run.cost == project_cost(run.project_id) > 0
    actions = AuditLog.objects.filter(object_id=str(run.pk)).order_by("seq").values_list("action", flat=True)
    assert [action for action in actions if action in {"run.queued", "run.claimed", "run.running", "run.ended"}] == [
        "run.queued",
        "run.claimed",
        "run.running",
        "run.ended",
    ]
    assert_nothing_is_left(run)


def assert_merged(run: Run, *, before: str) -> Verification:
    """Main is at the very commit that was verified."""
    seen: Verification = run.verifications.get()
    assert seen.passed
    assert run.base_commit == before
    assert repository(run.project_id).head() == run.merge_commit == seen.commit == run.task.result["commit"]
    return seen


def test_requirements(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.REQUIREMENTS, Role.PM, context={"questions": [{"question": "Who?", "answer": "We."}]})
    before = repository(task.project_id).create()

    run = attempt(task, keeper)

    assert_done(run)
    assert_merged(run, before=before)
    assert all(path.startswith("docs/") for path in task.result["changed"])
    assert task.project.requirements.exists()
    assert Task.objects.get(kind=TaskKind.PLAN).status == TaskStatus.READY


def test_plan(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.PLAN, Role.ARCHITECT)
    before = repository(task.project_id).create()

    run = attempt(task, keeper)

    assert_done(run)
    assert_merged(run, before=before)
    assert task.project.plans.get().status == "proposed"
    assert task.project.approvals.get().kind == "plan"


def test_demo(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.DEMO)
    before = repository(task.project_id).create()

    run = attempt(task, keeper)

    assert_done(run)
    seen = assert_merged(run, before=before)
    assert seen.tests_run > 0
    assert "answered 200" in seen.detail


def test_build_on_a_main_that_moved_meanwhile(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.BUILD, Role.PM, key="guide")
    before = seed(task.project)
    waiting = task_of(TaskKind.BUILD, Role.PM, project=task.project, key="later", depends_on=[task], status="pending")

    run = attempt(task, keeper)

    assert_done(run)
    assert_merged(run, before=before)
    waiting.refresh_from_db()
    assert (waiting.status, waiting.unmet_count) == (TaskStatus.READY, 0)


def test_review_without_a_change(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.BUILD, Role.QA)
    main = seed(task.project, builder.build_app(BRIEF, []))

    run = attempt(task, keeper)

    assert_done(run)
    assert (run.merge_commit, repository(run.project_id).head(), task.result["changed"]) == ("", main, [])
    assert "Findings" in task.result["summary"]


def asking_mentor(**fields: Any) -> tuple[Task, Task]:
    asking = task_of(TaskKind.BUILD, **BLOCKED)
    seed(asking.project)
    told = {"asking_task": str(asking.pk), "mentor_question": {"question": "Which database?", "context": ""}}
    return asking, task_of(TaskKind.MENTOR, Role.MENTOR, project=asking.project, context=told)


def test_mentor(keeper: LeaseKeeper) -> None:
    asking, task = asking_mentor()

    run = attempt(task, keeper)

    assert_done(run)
    asking.refresh_from_db()
    assert asking.status == TaskStatus.READY
    assert asking.context["mentor"][0]["question"] == "Which database?"
    assert asking.context["mentor"][0]["reply"] == task.result["summary"] != ""
