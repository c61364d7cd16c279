"""Runs that are ended from outside, and runs whose surroundings break: nothing is lost, nothing is left alive."""

import shutil
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from agents.actions import leases, runs, verbs
from agents.actions.checkpoints import INTERRUPTED
from agents.models import Agent, Checkpoint, Run, RunEvent
from agents.sandboxes import repository, run_directory
from agents.states import RunStatus
from agents.supervisor import supervise
from agents.supervisor.keeper import WORKER_STOPPING, LeaseKeeper
from agents.tasks import stop_runs
from projects.actions import approvals, projects
from projects.actions.approvals import Decision
from projects.models import AuditLog, Project, SquadMember, Task
from projects.roles import Role
from projects.states import ProjectStatus, TaskKind, TaskStatus
from tests.agents.supervisor.conftest import new_keeper
from tests.agents.supervisor.line import (
    BRIEF,
    Supervised,
    assert_nothing_is_left,
    attempt,
    hand_out,
    is_ready_again,
    lose,
    processes_of,
    seed,
    task_of,
    transcript_of,
)
from tests.factories import TESTER, ProjectFactory

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]

# Long enough to be interrupted: the model opens its second answer and says nothing.
WAITING = "stall after=1 delay=60"


def working(keeper: LeaseKeeper, *, order: str = WAITING) -> tuple[Supervised, Task]:
    """A run in the middle of its work, with an unsaved file in its clone."""
    task = task_of(TaskKind.BUILD, Role.PM, key="guide", order=order)
    seed(task.project)
    (run,) = hand_out(task)
    supervised = Supervised(run, keeper)
    supervised.wait_for_line("tool_result")
    (run_directory(run.pk) / "workspace" / "docs").mkdir()
    (run_directory(run.pk) / "workspace" / "docs" / "draft.md").write_text("half done\n")
    assert processes_of(run)
    return supervised, task


def draft_of(run: Run) -> bytes:
    """What the run's checkpoint holds of the unsaved file."""
    (saved,) = Checkpoint.objects.filter(run=run)
    return repository(run.project_id).file(saved.state["commit"], "docs/draft.md").data


def assert_handed_back(run: Run, task: Task, reason: str) -> None:
    """It is cancelled, and its task may be tried again at once, with all its attempts and without any blame."""
    assert (run.status, run.reason) == (RunStatus.CANCELLED, reason), run.detail
    assert run.detail.endswith(".")
    assert is_ready_again(task, attempts=0)
    assert (task.reason, task.detail) == (reason, run.detail)
    assert task.next_attempt_at <= timezone.now()
    assert AuditLog.objects.filter(action="run.ended", object_id=str(run.pk), details__reason=reason).exists()
    transcript_of(run)
    assert_nothing_is_left(run)


def test_a_worker_that_stops_hands_its_runs_over_and_another_goes_on(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper)

    assert keeper.stop_all(WORKER_STOPPING) == 1

    run = supervised.join()
    assert_handed_back(run, task, WORKER_STOPPING)
    assert draft_of(run) == b"half done\n"
    (saved,) = run.checkpoints.all()
    assert task.context == {"checkpoint": saved.file_snapshot, "resume": INTERRUPTED}

    Task.objects.filter(pk=task.pk).update(description="Write the guide.")  # nothing to wait for any more
    task.refresh_from_db()
    again = attempt(task, new_keeper("elsewhere"))

    assert again.status == RunStatus.SUCCEEDED, again.detail
    assert repository(task.project_id).file(again.merge_commit, "docs/draft.md").data == b"half done\n"


def test_a_worker_that_stops_does_not_begin_what_it_claims_late(keeper: LeaseKeeper) -> None:
    keeper.stop_all(WORKER_STOPPING)
    task = task_of(TaskKind.BUILD, Role.PM)
    seed(task.project)

    run = attempt(task, keeper)

    assert_handed_back(run, task, WORKER_STOPPING)
    assert run.turns == 0


def test_a_paused_project_stops_its_run_and_goes_on_later(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper, order=WAITING + " times=1")
    agent = Agent.objects.get(status="working")
    assert agent.pid in {process.pid for process in processes_of(supervised.run)}
    projects.pause_project(task.project, reason="Wait.", by=TESTER, now=timezone.now())

    stop_runs(project_id=str(task.project_id), reason="paused")

    run = supervised.join()
    assert_handed_back(run, task, "paused")
    agent.refresh_from_db()
    assert agent.pid is None
    assert draft_of(run) == b"half done\n"


def test_a_cancelled_project_stops_its_run_for_good(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper)
    main = repository(task.project_id).head()
    projects.cancel_project(task.project, reason="Not needed.", by=TESTER, now=timezone.now())

    stop_runs(project_id=str(task.project_id), reason="cancelled")

    run = supervised.join()
    task.refresh_from_db()
    assert (run.status, run.reason, task.status) == (RunStatus.CANCELLED, "cancelled", TaskStatus.CANCELLED)
    assert repository(task.project_id).head() == main
    assert_nothing_is_left(run)


def test_a_project_cancelled_while_nobody_told_the_run_gets_no_merge(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper, order="stall after=1 times=1 delay=2")
    main = repository(task.project_id).head()

    projects.cancel_project(task.project, reason="Not needed.", by=TESTER, now=timezone.now())

    run = supervised.join()
    assert (run.status, run.reason) == (RunStatus.CANCELLED, "cancelled"), run.detail
    assert repository(task.project_id).head() == main
    assert_nothing_is_left(run)


def test_a_supervisor_without_lease_writes_nothing_more(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper)

    lost = lose(supervised.run)
    told = AuditLog.objects.filter(object_id=str(lost.pk)).order_by("seq")
    known = RunEvent.objects.filter(run=lost).count(), list(told)

    run = supervised.join()
    assert (run.status, run.reason) == (RunStatus.LOST, "lease_expired")
    *before, late = told.all()
    assert (RunEvent.objects.filter(run=run).count(), before) == known
    assert (late.action, late.details["owner"], late.details["status"]) == ("run.came_late", keeper.owner, "lost")
    assert is_ready_again(task, attempts=0)
    assert draft_of(run) == b"half done\n"  # kept, and nothing that anybody goes on from
    assert task.context.get("checkpoint") is None
    assert_nothing_is_left(run)


def test_a_run_is_done_once_however_often_it_is_delivered(keeper: LeaseKeeper) -> None:
    task = task_of(TaskKind.BUILD, Role.PM, key="guide")
    seed(task.project)
    (run,) = hand_out(task)
    other = new_keeper("elsewhere")

    for supervised in [Supervised(run, keeper), Supervised(run, other), Supervised(run, keeper)]:
        supervised.join()

    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED, run.detail
    assert AuditLog.objects.filter(action="run.claimed").count() == 1
    assert RunEvent.objects.filter(run=run, kind="result").count() == 1
    assert run.verifications.count() == 1


def test_a_killed_cli_fails_the_run(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper)

    for process in processes_of(supervised.run):
        process.kill()

    run = supervised.join()
    assert (run.status, run.reason) == (RunStatus.FAILED, "cli_failed"), run.detail
    assert "program" in run.detail
    assert is_ready_again(task, attempts=1)
    assert draft_of(run) == b"half done\n"
    assert task.context.get("checkpoint") is None  # what led to nothing is kept, and not gone on from
    assert_nothing_is_left(run)


def test_wall_clock(keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "MINUTE_S", 4.0)
    task = task_of(TaskKind.BUILD, Role.PM, order="slow delay=0.5")
    seed(task.project)
    SquadMember.objects.update(max_minutes=1)

    run = attempt(task, keeper)

    assert (run.status, run.reason) == (RunStatus.FAILED, "wall_clock")
    assert "did not finish within" in task.detail
    assert_nothing_is_left(run)


def drop_connections() -> None:
    """End every session with the database but the test's own and the gateway's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND application_name <> 'gateway'"
        )


def test_dropped_connections_change_nothing(keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_run = leases.claim_run

    def claim_and_hear_nothing(run: Run, *, now: datetime) -> None:
        claim_run(run, now=now)
        raise OperationalError("the answer to the commit was lost")

    begin_running, tries = runs.begin_running, []

    def begin_and_hear_nothing(run: Run, **facts: Any) -> None:
        tries.append(run.status)
        if len(tries) > 1:
            begin_running(run, **facts)
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(leases, "claim_run", claim_and_hear_nothing)
    monkeypatch.setattr(runs, "begin_running", begin_and_hear_nothing)
    task = task_of(TaskKind.BUILD, Role.PM, key="guide")
    seed(task.project)
    (run,) = hand_out(task)
    supervised = Supervised(run, keeper)

    for status in (RunStatus.RUNNING, RunStatus.EVALUATING):
        supervised.wait_for(lambda run, status=status: run.status == status)
        drop_connections()

    run = supervised.join()
    assert (run.status, run.task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED), run.detail
    assert tries == [RunStatus.STARTING] * 2  # tried again, and not done twice
    assert AuditLog.objects.filter(action="run.running", object_id=str(run.pk)).count() == 1
    transcript_of(run)
    assert_nothing_is_left(run)


def test_a_platform_that_breaks_says_so(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper, order="stall after=1 times=1 delay=2")

    shutil.rmtree(repository(task.project_id).path)

    run = supervised.join()
    assert (run.status, run.reason) == (RunStatus.FAILED, "platform_error")
    assert "platform" in run.detail
    assert is_ready_again(task, attempts=0)
    assert task.next_attempt_at > timezone.now()
    assert (run_directory(run.pk) / "workspace" / "docs" / "draft.md").exists()  # as long as nobody holds it
    assert processes_of(run) == []


def test_work_that_was_handed_in_is_gone_on_from_where_the_platform_could_not_look_at_it(
    keeper: LeaseKeeper, settings: Settings
) -> None:
    task = task_of(TaskKind.BUILD, Role.PM, key="guide")
    seed(task.project)
    repo = repository(task.project_id)
    checks = Path(settings.EKLAVYA_VAR) / "checks"
    shutil.rmtree(checks, ignore_errors=True)
    checks.write_text("No directory can be made here.")

    run = attempt(task, keeper)

    checks.unlink()
    assert (run.status, run.reason) == (RunStatus.FAILED, "platform_error")
    assert is_ready_again(task, attempts=0)
    (saved,) = run.checkpoints.all()
    assert repo.tree_sha(saved.state["commit"]) == repo.tree_sha(run.commit), "all that was handed in"
    assert task.context == {"checkpoint": saved.file_snapshot, "resume": INTERRUPTED}
    again = attempt(task, keeper)
    assert again.status == RunStatus.SUCCEEDED, again.detail
    assert repo.diff_stat(again.base_commit, again.merge_commit)


def poor_task(**limits: str) -> Task:
    project = ProjectFactory(status="building", description=BRIEF, budget_limit=Decimal(limits.get("project", "25")))
    SquadMember.objects.filter(squad__project=project).update(max_cost=Decimal(limits.get("run", "5")))
    task = task_of(TaskKind.BUILD, Role.PM, key="guide", project=project)
    seed(project)
    return task


def test_a_budget_that_is_used_up_pauses_and_more_of_it_completes(keeper: LeaseKeeper) -> None:
    task = poor_task(project="0.01")

    run = attempt(task, keeper)

    assert (run.status, run.reason) == (RunStatus.OVER_BUDGET, "over_budget")
    assert run.detail == "The budget of 0.01 USD is used up."
    assert is_ready_again(task, attempts=0)
    project = Project.objects.get(pk=task.project_id)
    assert (project.status, project.status_reason) == (ProjectStatus.PAUSED, run.detail)
    approval = project.approvals.get()
    assert (approval.kind, approval.status) == ("budget", "pending")
    assert_nothing_is_left(run)

    approvals.decide(approval.pk, Decision("raise", comment="20"), by=TESTER, now=timezone.now())

    again = attempt(task, keeper)
    assert (again.status, task.status) == (RunStatus.SUCCEEDED, TaskStatus.COMPLETED), again.detail


def test_a_run_that_uses_up_its_own_limit_leaves_the_project_alone(keeper: LeaseKeeper) -> None:
    task = poor_task(run="0.01")

    run = attempt(task, keeper)

    assert (run.status, run.reason) == (RunStatus.OVER_BUDGET, "run_budget")
    assert run.detail == "The agent used up the 0.01 USD that one run may cost, without finishing."
    assert is_ready_again(task, attempts=1)
    assert Project.objects.get(pk=task.project_id).status == ProjectStatus.BUILDING
    assert_nothing_is_left(run)


def test_work_that_the_agent_saved_is_gone_on_from(keeper: LeaseKeeper) -> None:
    supervised, task = working(keeper, order=WAITING + " times=1")
    run = Run.objects.select_related("task", "agent").get(pk=supervised.run.pk)
    verbs.save_checkpoint(run, "The draft is done, the guide is not.", now=timezone.now())
    projects.pause_project(task.project, reason="Wait.", by=TESTER, now=timezone.now())
    stop_runs(project_id=str(task.project_id), reason="paused")

    supervised.join()

    task.refresh_from_db()
    saved = run.checkpoints.get()
    assert run.project.messages.get(message_type="CHECKPOINT").payload == {"seq": saved.seq}
    assert task.context == {"checkpoint": saved.file_snapshot, "resume": "The draft is done, the guide is not."}
    projects.resume_project(Project.objects.get(pk=task.project_id), by=TESTER, now=timezone.now())
    Task.objects.filter(pk=task.pk).update(description="")
    again = attempt(task, keeper)
    assert again.status == RunStatus.SUCCEEDED, again.detail
    files = {entry.path for entry in repository(run.project_id).tree(again.merge_commit, "docs")}
    assert files == {"docs/draft.md", "docs/user-guide.md"}
