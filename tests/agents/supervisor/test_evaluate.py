"""From a clone to main, without an agent: the test writes what one would have left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from agents import sandboxes
from agents.actions import recoveries
from agents.errors import LeaseLost
from agents.models import Run, Verification
from agents.sandboxes import repository, runtime
from agents.states import RunStatus
from agents.supervisor import workplace
from agents.supervisor.evaluate import evaluate
from agents.supervisor.workplace import Workplace
from agents.workspace.git import Git
from projects.models import Task
from projects.states import TaskStatus
from tests.agents.supervisor.line import seed
from tests.factories import NOW, TESTER, RunFactory, TaskFactory

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


def conflict_of(text: str = "Theirs.\n") -> tuple[Task, Task, Run]:
    """A task whose change conflicts with main, what is to resolve it, and the run that brought the change."""
    task = task_at_work(title="Notes")
    seed(task.project)
    place = place_of(task, {"docs/notes.md": "Mine.\n", "docs/more.md": "More.\n"})
    judge(place_of(task_at_work(project=task.project), {"docs/notes.md": text}))
    run = judge(place)
    assert (run.status, run.reason) == (RunStatus.FAILED, "conflict"), run.detail
    return run.task, run.task.subtasks.get(), run


def begun(conflict: Task) -> Task:
    Task.objects.filter(pk=conflict.pk).update(status="allocated")
    Task.objects.filter(pk=conflict.pk).update(status="in_progress")
    return Task.objects.select_related("project").get(pk=conflict.pk)


def test_what_resolves_a_conflict_starts_with_both_and_completes_both() -> None:
    task, conflict, run = conflict_of()
    assert (task.status, task.reason, task.attempts) == (TaskStatus.BLOCKED, "awaiting_merge", 0)
    place = place_of(begun(conflict), {})
    marked = (place.clone / "docs/notes.md").read_text().splitlines()
    assert (marked[0][:8], marked[1], marked[3], marked[4]) == ("<<<<<<< ", "Theirs.", "Mine.", f">>>>>>> {run.commit}")
    assert (place.clone / "docs/more.md").exists()
    (place.clone / "docs/notes.md").write_text("Theirs.\nMine.\n")

    resolved = judge(place)

    task.refresh_from_db()
    repo = repository(task.project_id)
    assert (resolved.status, task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED), resolved.detail
    assert repo.head() == resolved.merge_commit == task.result["commit"]
    assert repo.is_merged(run.commit)
    assert repo.file(repo.head(), "docs/notes.md").data == b"Theirs.\nMine.\n"
    assert task.result["changed"] == ["docs/more.md", "docs/notes.md"]
    assert resolved.verifications.get().passed


def test_a_conflict_that_keeps_what_main_has_is_resolved_too() -> None:
    task, conflict, run = conflict_of()
    place = place_of(begun(conflict), {"docs/notes.md": "Theirs.\n"})
    (place.clone / "docs/more.md").unlink()
    resolved = judge(place)
    task.refresh_from_db()
    assert (resolved.status, task.status, task.result["changed"]) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED, [])
    assert repository(task.project_id).is_merged(run.commit)


@pytest.mark.parametrize("way", ["markers", "own markers", "history without the change", "history without main"])
def test_a_conflict_that_is_not_resolved_is_refused(way: str) -> None:
    task, conflict, _ = conflict_of()
    main = repository(task.project_id).head()
    place = place_of(begun(conflict), {})
    if way == "own markers":
        (place.clone / "docs/notes.md").write_text("<<<<<<< HEAD\nTheirs.\n=======\nMine.\n>>>>>>> mine\n")
    if way.startswith("history"):
        git = Git(place.clone / ".git", place.clone)
        kept = main if way == "history without the change" else task.context["conflict"]["commit"]
        git.run("checkout", "-q", "-f", "-B", git.text("symbolic-ref", "--short", "HEAD"), kept)
        (place.clone / "docs/notes.md").write_text("Mine.\n")

    run = judge(place)

    task.refresh_from_db()
    assert (run.status, run.reason) == (RunStatus.FAILED, "unresolved"), run.detail
    assert ("docs/notes.md" in run.detail) is way.endswith("markers")
    assert (run.task.status, run.task.attempts) == (TaskStatus.READY, 1)
    assert (task.status, task.reason) == (TaskStatus.BLOCKED, "awaiting_merge")
    assert repository(task.project_id).head() == main


def test_a_conflict_that_meets_another_one_is_done_again_on_what_main_has_then() -> None:
    task, conflict, first = conflict_of()
    place = place_of(begun(conflict), {"docs/notes.md": "Theirs and mine.\n"})
    judge(place_of(task_at_work(project=task.project), {"docs/notes.md": "Others.\n"}))

    run = judge(place)

    assert (run.status, run.reason) == (RunStatus.FAILED, "conflict"), run.detail
    assert (run.task.status, run.task.attempts, run.task.subtasks.count()) == (TaskStatus.READY, 0, 0)
    told = run.task.context["conflict"]
    assert (told["commit"], told["task"]["title"]) == (run.commit, "Notes")
    resolved = judge(place_of(begun(run.task), {"docs/notes.md": "All three.\n"}))
    task.refresh_from_db()
    assert (resolved.status, task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED), resolved.detail
    assert repository(task.project_id).is_merged(first.commit)


def test_a_plan_that_conflicts_is_made_anew_by_its_own_task() -> None:
    task = task_at_work(kind="requirements", role="pm")
    seed(task.project)
    place = place_of(task, {"docs/notes.md": "Mine.\n"})
    place.run.outcome["verb"] = "submit_requirements"
    judge(place_of(task_at_work(project=task.project, kind="step"), {"docs/notes.md": "Theirs.\n"}))

    run = judge(place)

    assert (run.reason, run.task.status, run.task.attempts) == ("conflict", TaskStatus.READY, 0), run.detail
    assert not run.task.subtasks.exists()


def test_a_conflict_asks_a_person_where_that_is_switched_off() -> None:
    recoveries.switch("conflict", on=False, by=TESTER, now=NOW)
    task = task_at_work()
    seed(task.project)
    place = place_of(task, NOTES)
    judge(place_of(task_at_work(project=task.project), {"docs/notes.md": "Theirs.\n"}))

    run = judge(place)

    assert (run.reason, run.task.status, run.task.reason) == ("conflict", TaskStatus.BLOCKED, "conflict")
    assert run.task.approvals.get().kind == "blocked_task"
    assert not run.task.subtasks.exists()
