"""From a clone to main, without an agent: the test writes what one would have left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from agents import sandboxes
from agents.errors import LeaseLost
from agents.models import Run, Verification
from agents.sandboxes import repository, runtime
from agents.states import RunStatus
from agents.supervisor import workplace
from agents.supervisor.evaluate import evaluate
from agents.supervisor.workplace import Workplace
from projects.models import Task
from projects.states import TaskStatus
from tests.agents.supervisor.line import seed
from tests.factories import NOW, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db
NOTES = {"docs/notes.md": "Notes.\n"}


@pytest.fixture(autouse=True)
def _local(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield
    sandboxes.choice.cache_clear()


def place_of(task: Task, files: dict[str, str]) -> Workplace:
    """What a developer's run left that wrote these files and completed its task."""
    run = RunFactory(
        status="starting",
        task=task,
        outcome={"verb": "task_complete", "args": {"summary": "done"}},
    )
    place = workplace.fill(workplace.prepare(run, "ekr_", runtime()))
    for path, text in files.items():
        (place.clone / path).parent.mkdir(parents=True, exist_ok=True)
        (place.clone / path).write_text(text)
    Run.objects.filter(pk=run.pk).update(status="running", base_commit=place.base_commit)
    run.refresh_from_db()
    return place


def task_at_work(**fields: object) -> Task:
    task: Task = TaskFactory(status="in_progress", **fields)
    return task


def judge(place: Workplace) -> Run:
    evaluate(place, clock=lambda: NOW, check=lambda: None)
    return Run.objects.select_related("task").get(pk=place.run.pk)


def test_a_verified_change_becomes_main() -> None:
    task = task_at_work()
    seed(task.project)

    run = judge(place_of(task, NOTES))

    assert (run.status, run.task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED), run.detail
    assert run.task.result == {"summary": "done", "commit": run.merge_commit, "changed": ["docs/notes.md"]}
    assert repository(run.project_id).head() == run.merge_commit


@pytest.mark.parametrize("rehearsal", [True, False])
def test_what_the_platform_commits_names_the_task_and_the_rehearsal(rehearsal: bool) -> None:
    place = place_of(task_at_work(kind="plan", role="architect"), {"docs/architecture.md": "One file.\n"})
    Run.objects.filter(pk=place.run.pk).update(rehearsal=rehearsal)
    place.run.refresh_from_db()
    run = judge(place)

    (last, *_) = repository(run.project_id).log(1)
    assert last.subject == run.task.title
    assert f"Task: {run.task.key}" in last.body
    assert ("Model: rehearsal" in last.body) is rehearsal


def test_two_changes_that_collide_where_case_does_not_count_are_not_merged() -> None:
    task = task_at_work()
    seed(task.project)
    place = place_of(task, {"docs/Notes.md": "Mine.\n"})
    main = judge(place_of(task_at_work(project=task.project), {"docs/notes.md": "Theirs.\n"})).merge_commit

    run = judge(place)

    assert (run.status, run.reason) == (RunStatus.FAILED, "paths_refused")
    assert "are the same name where case does not count" in run.detail
    assert repository(run.project_id).head() == main
    assert not run.verifications.exists()


def test_files_that_passed_before_are_not_looked_at_again() -> None:
    first = task_at_work()
    seed(first.project)
    passed = judge(place_of(first, NOTES)).verifications.get()
    judge(place_of(task_at_work(project=first.project), {"docs/notes.md": "Other.\n"}))

    run = judge(place_of(task_at_work(project=first.project), NOTES))

    again = run.verifications.get()
    assert run.status == RunStatus.SUCCEEDED, run.detail
    assert (again.tree, again.tests_run, again.passed) == (passed.tree, passed.tests_run, True)
    assert again.commit == run.merge_commit != passed.commit
    assert passed.commit[:12] in again.detail


def test_files_that_passed_where_no_application_was_due_are_looked_at() -> None:
    early = task_at_work(kind="requirements", role="pm")
    assert judge(place_of(early, NOTES)).verifications.get().passed
    seed(early.project, {"docs/notes.md": "Other.\n"})

    run = judge(place_of(task_at_work(project=early.project), NOTES))

    assert (run.status, run.reason) == (RunStatus.FAILED, "manifest_missing")


def test_what_failed_before_is_looked_at_again() -> None:
    task = task_at_work()
    seed(task.project)
    broken = {"tests/test_more.py": "raise SystemExit(1)\n"}

    first = judge(place_of(task, broken))
    second = judge(place_of(task_at_work(project=task.project), broken))

    assert (first.reason, second.reason) == ("tests_failed", "tests_failed")
    assert Verification.objects.filter(passed=False).count() == 2
    assert "are those of" not in Verification.objects.order_by("-created_at", "-id")[0].detail


def test_a_lost_lease_moves_nothing() -> None:
    task = task_at_work()
    main = seed(task.project)
    place = place_of(task, NOTES)

    def check() -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        evaluate(place, clock=lambda: NOW, check=check)

    assert repository(task.project_id).head() == main
    place.run.refresh_from_db()
    assert place.run.status == RunStatus.RUNNING


@pytest.mark.parametrize("moved", [False, True])
def test_a_merge_that_broke_off_is_gone_on_with(moved: bool) -> None:
    task = task_at_work()
    main = seed(task.project)
    place = place_of(task, NOTES)
    repo = repository(task.project_id)
    commit = repo.collect(str(place.run.pk), place.clone, author=workplace.author_of(place.run)).commit
    Task.objects.filter(pk=task.pk).update(status="review")
    for status in ("evaluating", "merging"):
        Run.objects.filter(pk=place.run.pk).update(status=status, commit=commit, merge_commit=commit)
    if moved:
        repo.advance_main(expected_old=main, new=commit)
    place.run.refresh_from_db()
    place.run.task.refresh_from_db()

    run = judge(place)

    assert (run.status, run.merge_commit, repo.head()) == (RunStatus.SUCCEEDED, commit, commit)
    assert run.verifications.count() == (0 if moved else 1)


def test_a_task_that_was_cancelled_is_not_merged() -> None:
    task = task_at_work()
    main = seed(task.project)
    place = place_of(task, NOTES)

    def cancel_at_the_end() -> None:
        if Verification.objects.exists():
            Task.objects.filter(pk=task.pk).update(status="cancelled")

    with pytest.raises(Exception, match="under review"):
        evaluate(place, clock=lambda: NOW, check=cancel_at_the_end)

    assert repository(task.project_id).head() == main
