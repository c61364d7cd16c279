from datetime import timedelta
from pathlib import Path

import pytest

from agents.actions import recovery
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.workspace.values import Author
from projects.models import Task
from projects.states import TaskKind, TaskStatus
from tests.factories import NOW, RunFactory, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db
EXPIRED = NOW + timedelta(seconds=31)


def test_a_run_without_a_lease_is_lost_and_its_task_tried_again_at_once() -> None:
    run = RunFactory(status="running")

    assert recovery.end_lost_runs(now=EXPIRED) == [run]

    run.refresh_from_db()
    task = Task.objects.get(pk=run.task_id)
    assert (run.status, run.reason) == (RunStatus.LOST, "lease_expired")
    assert (task.status, task.attempts, task.next_attempt_at) == (TaskStatus.READY, 0, EXPIRED)


def test_a_run_with_a_lease_is_left_alone() -> None:
    RunFactory(status="running")

    assert recovery.end_lost_runs(now=NOW + timedelta(seconds=29)) == []


def test_a_lost_run_is_ended_once() -> None:
    RunFactory(status="evaluating")
    recovery.end_lost_runs(now=EXPIRED)

    assert recovery.end_lost_runs(now=EXPIRED) == []


def merged_run(tmp_path: Path, *, merged: bool) -> object:
    run = RunFactory(status="merging", outcome={"verb": "task_complete", "args": {"summary": "done"}})
    repo = repository(run.project_id)
    start = repo.create()
    author = Author("ada", "ada@example.com")
    repo.clone_for_run(str(run.pk), tmp_path / "clone", author=author)
    (tmp_path / "clone" / "app.py").write_text("print()\n")
    repo.collect(str(run.pk), tmp_path / "clone", author=author)
    candidate = repo.merge(str(run.pk), "Add the app")
    if merged:
        repo.advance_main(expected_old=start, new=candidate.commit)
    run.merge_commit = candidate.commit
    run.save(update_fields=["merge_commit"])
    return run


def test_a_run_that_moved_main_before_its_supervisor_died_is_completed(tmp_path: Path) -> None:
    run = merged_run(tmp_path, merged=True)

    recovery.end_lost_runs(now=EXPIRED)

    run.refresh_from_db()  # type: ignore[attr-defined]
    assert run.status == RunStatus.SUCCEEDED  # type: ignore[attr-defined]
    assert Task.objects.get(pk=run.task_id).status == TaskStatus.COMPLETED  # type: ignore[attr-defined]


def test_a_run_that_died_before_it_moved_main_is_lost(tmp_path: Path) -> None:
    run = merged_run(tmp_path, merged=False)

    recovery.end_lost_runs(now=EXPIRED)

    run.refresh_from_db()  # type: ignore[attr-defined]
    assert run.status == RunStatus.LOST  # type: ignore[attr-defined]


def test_a_queued_run_is_sent_again_when_its_message_was_lost() -> None:
    run = RunFactory(worker=WorkerFactory(queue="runs.here"))

    assert recovery.requeue(now=NOW + timedelta(seconds=5)) == []
    (again,) = recovery.requeue(now=NOW + timedelta(seconds=11))

    assert (again.run_id, again.queue) == (run.pk, "runs.here")


def test_a_queued_run_of_a_dead_worker_is_ended() -> None:
    run = RunFactory(worker=WorkerFactory(status="offline"))

    assert recovery.requeue(now=NOW + timedelta(seconds=11)) == []

    run.refresh_from_db()
    assert (run.status, run.reason) == (RunStatus.LOST, "worker_gone")


def test_a_person_is_asked_when_the_mentor_cannot_help() -> None:
    waiting = TaskFactory(status="blocked", reason="awaiting_mentor", detail="Which database?")
    TaskFactory(
        project=waiting.project, kind=TaskKind.MENTOR, status="failed", context={"asking_task": str(waiting.pk)}
    )

    assert recovery.escalate_unanswered(now=NOW) == 1

    waiting.refresh_from_db()
    assert (waiting.status, waiting.reason) == (TaskStatus.BLOCKED, "blocked")
    assert "Which database?" in waiting.approvals.get().body
    assert recovery.escalate_unanswered(now=NOW) == 0


def test_nobody_is_asked_while_the_mentor_works() -> None:
    waiting = TaskFactory(status="blocked", reason="awaiting_mentor")
    TaskFactory(project=waiting.project, kind=TaskKind.MENTOR, context={"asking_task": str(waiting.pk)})

    assert recovery.escalate_unanswered(now=NOW) == 0
