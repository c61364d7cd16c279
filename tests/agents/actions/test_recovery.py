from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.actions import recovery
from agents.models import Agent, Run
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.workspace.values import Author
from projects.models import Task
from projects.states import TaskKind, TaskStatus
from tests.factories import NOW, CheckpointFactory, ProjectFactory, RunFactory, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db
EXPIRED = NOW + timedelta(seconds=21)


def test_a_run_without_a_lease_is_lost_and_its_task_tried_again_at_once() -> None:
    run = RunFactory(status="running")

    assert recovery.end_lost_runs(now=EXPIRED) == [run]

    run.refresh_from_db()
    task = Task.objects.get(pk=run.task_id)
    assert (run.status, run.reason) == (RunStatus.LOST, "lease_expired")
    assert (task.status, task.attempts, task.next_attempt_at) == (TaskStatus.READY, 0, EXPIRED)


def test_a_run_that_cannot_be_ended_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, good = RunFactory(status="running"), RunFactory(status="running")
    # As if somebody had set its agent free by hand: the run cannot end it once more.
    Agent.objects.filter(pk=broken.agent_id).update(status="terminated")

    assert recovery.end_lost_runs(now=EXPIRED) == [good]

    broken.refresh_from_db()
    assert broken.status == RunStatus.RUNNING


def test_a_task_whose_machine_dies_again_and_again_is_perhaps_why() -> None:
    task = TaskFactory(status="in_progress")
    for _ in range(recovery.MAX_LOST):
        RunFactory(status="lost", task=task)
    RunFactory(status="running", task=task)

    recovery.end_lost_runs(now=EXPIRED)

    task.refresh_from_db()
    assert (task.attempts, task.context["failure"]["reason"]) == (1, "lease_expired")
    assert task.next_attempt_at > EXPIRED


def test_a_lost_run_goes_on_from_what_its_agent_saved() -> None:
    run = RunFactory(status="running")
    CheckpointFactory(run=run, resume_instructions="")
    saved = CheckpointFactory(run=run, resume_instructions="Half is done.")

    recovery.end_lost_runs(now=EXPIRED)

    context = Task.objects.get(pk=run.task_id).context
    assert context == {"checkpoint": saved.file_snapshot, "resume": "Half is done."}


def test_what_waits_for_a_worker_that_stops_is_free_again_at_once() -> None:
    stopping = WorkerFactory(name="stopping")
    waiting, begun = RunFactory(worker=stopping), RunFactory(status="running", worker=stopping)
    held = RunFactory(worker=stopping, lease_owner="stopping", lease_until=EXPIRED)
    elsewhere = RunFactory(worker=WorkerFactory(name="other"))

    assert recovery.hand_over_queued("stopping", now=NOW) == 1

    waiting.refresh_from_db()
    task = Task.objects.get(pk=waiting.task_id)
    assert (waiting.status, waiting.reason) == (RunStatus.CANCELLED, "worker_stopping")
    assert (task.status, task.attempts, task.next_attempt_at) == (TaskStatus.READY, 0, NOW)
    for run in (begun, held, elsewhere):
        assert run.status == type(run).objects.get(pk=run.pk).status
    assert recovery.hand_over_queued("stopping", now=NOW) == 0


def test_a_run_with_a_lease_is_left_alone() -> None:
    RunFactory(status="running")

    assert recovery.end_lost_runs(now=NOW + timedelta(seconds=19)) == []


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


def test_a_run_that_moved_main_for_a_cancelled_task_ends_with_it(tmp_path: Path) -> None:
    run = merged_run(tmp_path, merged=True)
    Task.objects.filter(pk=run.task_id).update(status="cancelled")  # type: ignore[attr-defined]

    recovery.end_lost_runs(now=EXPIRED)

    run.refresh_from_db()  # type: ignore[attr-defined]
    assert (run.status, run.reason) == (RunStatus.CANCELLED, "cancelled")  # type: ignore[attr-defined]
    assert run.merge_commit[:12] in run.detail  # type: ignore[attr-defined]


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


@pytest.mark.parametrize(("status", "reason"), [("paused", "paused"), ("cancelled", "cancelled"), ("building", "")])
def test_runs_of_projects_where_nothing_should_run_are_asked_to_stop(status: str, reason: str) -> None:
    run = RunFactory(status="running", task=TaskFactory(status="in_progress", project=ProjectFactory(status=status)))

    assert recovery.stop_unwanted(now=NOW) == (1 if reason else 0)
    assert recovery.stop_unwanted(now=NOW) == 0

    run.refresh_from_db()
    assert run.stop_requested == reason


def test_run_at_a_cancelled_task_is_asked_to_stop_and_no_other() -> None:
    project = ProjectFactory(status="building")
    run = RunFactory(status="running", task=TaskFactory(status="in_progress", project=project))
    other = RunFactory(status="running", task=TaskFactory(status="in_progress", project=project))
    Task.objects.filter(pk=run.task.pk).update(status="cancelled")

    assert recovery.stop_at_cancelled(now=NOW) == 1
    assert recovery.stop_at_cancelled(now=NOW) == 0

    asked = dict(Run.objects.values_list("pk", "stop_requested"))
    assert asked == {run.pk: "cancelled", other.pk: ""}


def test_a_project_that_is_built_and_not_delivered_is_found() -> None:
    built = TaskFactory(status="completed", completed_at=NOW).project
    half = TaskFactory(status="completed", completed_at=NOW).project
    TaskFactory(project=half)
    TaskFactory(status="completed", completed_at=NOW, project=ProjectFactory(status="complete"))

    assert recovery.undelivered(now=NOW + timedelta(seconds=29)) == []
    with CaptureQueriesContext(connection) as asked:
        assert recovery.undelivered(now=NOW + timedelta(seconds=31)) == [built.pk]
    assert len(asked) == 1  # however many are being built: the sweep asks every 5 s


@pytest.mark.parametrize(
    ("status", "reason"), [("cancelled", "project_cancelled"), ("archived", "project_archived"), ("paused", "")]
)
def test_what_is_open_in_a_project_that_was_given_up_is_cancelled(status: str, reason: str) -> None:
    task = TaskFactory(status="ready", project=ProjectFactory(status=status))
    other = TaskFactory(status="ready")

    assert recovery.cancel_leftovers(now=NOW) == (1 if reason else 0)
    assert recovery.cancel_leftovers(now=NOW) == 0

    task.refresh_from_db()
    other.refresh_from_db()
    assert (task.status, task.reason) == (("cancelled", reason) if reason else ("ready", task.reason))
    assert other.status == "ready"
