"""Changes that do not become part of main, and what their tasks are told."""

import pytest

from agents.models import Run
from agents.rehearsal import builder
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor import workplace
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.workplace import Workplace
from projects.models import AuditLog
from projects.roles import Role
from projects.states import TaskKind, TaskStatus
from tests.agents.supervisor.line import (
    BRIEF,
    PRODUCT,
    Supervised,
    assert_nothing_is_left,
    attempt,
    hand_out,
    is_ready_again,
    seed,
    task_of,
)

WITHOUT_START = '[commands]\ntest = "python3 -m unittest discover -s tests -t ."\n'
pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]


def assert_refused(run: Run, reason: str, sentence: str, *, main: str) -> None:
    """It failed, main did not move, and the task's next run will know why."""
    assert (run.status, run.reason) == (RunStatus.FAILED, reason), run.detail
    assert sentence in run.detail
    assert sentence in run.task.context["failure"]["detail"]
    assert run.merge_commit == ""
    assert repository(run.project_id).head() == main
    assert_nothing_is_left(run)


def test_failing_tests_are_refused_and_mended_by_the_next_run(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.BUILD, Role.TESTER, order="broken")
    main = seed(task.project, builder.build_app(BRIEF, []))

    run = attempt(task, keeper)

    assert_refused(run, "tests_failed", "this change was never tested", main=main)
    assert is_ready_again(task, attempts=1)
    assert not run.verifications.get().passed
    again = attempt(task, keeper)
    assert (again.status, task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED), again.detail


def test_failing_tests_at_the_last_attempt_ask_a_person(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.BUILD, Role.TESTER, order="broken times=9", attempts=2)
    main = seed(task.project, builder.build_app(BRIEF, []))

    run = attempt(task, keeper)

    assert_refused(run, "tests_failed", "this change was never tested", main=main)
    assert (task.status, task.attempts) == (TaskStatus.BLOCKED, 3)
    approval = task.approvals.get()
    assert (approval.kind, approval.status) == ("blocked_task", "pending")
    assert "exit code" in approval.body


def test_of_two_changes_of_one_line_both_come_into_main_by_a_task_that_brings_them_together(
    keeper: LeaseKeeper,
) -> None:
    stall = "stall after=1 times=1 delay=4]] [[rehearsal: conflict"
    notes = task_of(TaskKind.BUILD, Role.DEVELOPER, key="storage", order=stall)
    guide = task_of(TaskKind.BUILD, Role.DEVELOPER, key="pages", project=notes.project, order="conflict")
    seed(notes.project, builder.build_app(BRIEF, []))
    waiting, coming = hand_out(notes, guide)
    first = Supervised(waiting, keeper)
    first.wait_for(lambda run: run.status == RunStatus.RUNNING)  # its clone is made

    both = [Supervised(coming, keeper).join(), first.join()]

    early, late = sorted(both, key=lambda run: run.status == RunStatus.FAILED)
    assert early.status == RunStatus.SUCCEEDED, early.detail
    assert (late.status, late.reason) == (RunStatus.FAILED, "conflict"), late.detail
    assert "README.md" in late.detail
    assert (late.task.status, late.task.reason, late.task.attempts) == (TaskStatus.BLOCKED, "awaiting_merge", 0)
    assert_nothing_is_left(late)

    conflict = late.task.subtasks.get()
    run = attempt(conflict, keeper)

    assert (run.status, run.base_commit) == (RunStatus.SUCCEEDED, early.merge_commit), run.detail
    done = late.task
    done.refresh_from_db()
    assert (done.status, conflict.status) == (TaskStatus.COMPLETED, TaskStatus.COMPLETED)
    assert (done.result["commit"], done.result["resolved_by"]) == (run.merge_commit, conflict.key)
    assert done.result["summary"] == late.outcome["args"]["summary"]
    repo = repository(run.project_id)
    assert repo.head() == run.merge_commit
    assert repo.is_merged(late.commit)
    lines = repo.file(repo.head(), "README.md").data.decode().splitlines()
    assert {"# Changed by storage", "# Changed by pages"} <= set(lines)
    assert not [line for line in lines if line.startswith(("<<<<<<<", "=======", ">>>>>>>"))]
    assert run.verifications.get().passed
    assert_nothing_is_left(run)


def test_a_change_outside_of_the_roles_paths_is_refused(keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(TaskKind.BUILD, Role.PM, key="guide")
    main = seed(task.project)
    fill = workplace.fill

    def fill_and_change(place: Workplace) -> Workplace:
        filled = fill(place)
        (filled.clone / "app" / "extra.py").write_text("print()\n")
        return filled

    monkeypatch.setattr(workplace, "fill", fill_and_change)
    run = attempt(task, keeper)

    sentence = "app/extra.py is not this role's to change"
    assert_refused(run, "paths_refused", sentence, main=main)
    assert is_ready_again(task, attempts=1)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("", "manifest_missing"),
        (WITHOUT_START, "start_missing"),
        (PRODUCT["eklavya.toml"].replace("python3 -m app", "true"), "start_failed"),
    ],
)
def test_a_product_that_does_not_start_is_refused(keeper: LeaseKeeper, manifest: str, reason: str) -> None:
    task = task_of(TaskKind.BUILD, Role.PM, key="guide")
    files = {path: text for path, text in PRODUCT.items() if path != "eklavya.toml"}
    main = seed(task.project, files | ({"eklavya.toml": manifest} if manifest else {}))

    run = attempt(task, keeper)

    assert_refused(run, reason, "", main=main)
    assert is_ready_again(task, attempts=1)


def test_a_demo_without_a_start_command_is_refused(keeper: LeaseKeeper) -> None:
    # What the feedback asks for leaves the manifest as it is.
    task = task_of(TaskKind.DEMO, context={"feedback": [{"demo": 1, "text": "Make it blue."}]})
    main = seed(task.project, builder.build_app(BRIEF, []) | {"eklavya.toml": WITHOUT_START})

    run = attempt(task, keeper)

    assert_refused(run, "start_missing", "start", main=main)
    assert is_ready_again(task, attempts=1)
    seen = run.verifications.get()
    assert (seen.passed, seen.reason) == (False, "start_missing")
    told = AuditLog.objects.filter(action__in=["commit.refused", "run.ended"]).order_by("seq")
    assert [(row.action, row.details["reason"]) for row in told] == [
        ("commit.refused", "start_missing"),
        ("run.ended", "start_missing"),
    ]
    assert not task.project.demos.exists()


def test_a_demo_of_nothing_is_refused(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.DEMO)
    main = seed(task.project, builder.build_app(BRIEF, []))

    run = attempt(task, keeper)

    assert_refused(run, "no_change", "nothing was changed", main=main)
