import threading
from typing import Any

import pytest
from django.db import connection, transaction

from agents.actions import outcomes
from agents.actions.runs import Ending
from agents.models import Recovery, Run
from agents.states import AgentStatus, RunStatus
from projects.actions import approvals
from projects.actions.approvals import Decision
from projects.errors import ProjectNotActive
from projects.ids import new_id
from projects.models import AuditLog, Project, Task, TaskDependency
from projects.states import TaskKind, TaskStatus
from tests.agents.supervisor.line import wait_until
from tests.factories import NOW, TESTER, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


def ended(kind: TaskKind, verb: str, args: dict[str, Any], **task: Any) -> Run:
    of = TaskFactory(kind=kind, status="in_progress", **task)
    return RunFactory(status="running", task=of, outcome={"verb": verb, "args": args})


def test_asking_the_client_blocks_the_task_until_the_answer() -> None:
    asked = [{"question": "Who may log in?", "options": ["all", "staff"], "recommended": "staff"}]
    run = ended(TaskKind.REQUIREMENTS, "ask_client", {"questions": asked}, role="pm")

    outcomes.settle(run, now=NOW)

    task = Task.objects.get(pk=run.task_id)
    run.agent.refresh_from_db()
    assert (run.status, task.status, run.agent.status) == ("succeeded", TaskStatus.BLOCKED, AgentStatus.BLOCKED)

    approvals.decide(task.approvals.get().pk, Decision("answer", answers=["staff"]), by=TESTER, now=NOW)

    task.refresh_from_db()
    assert task.status == TaskStatus.READY
    assert task.context["questions"] == [{"question": "Who may log in?", "answer": "staff"}]
    assert task.context["agent"] == str(run.agent_id)


def test_asking_the_mentor_makes_a_task_for_it_and_the_reply_goes_back() -> None:
    run = ended(TaskKind.BUILD, "ask_mentor", {"question": "Which database?", "context": "small"})

    outcomes.settle(run, now=NOW)

    mentor_task = Task.objects.get(kind=TaskKind.MENTOR)
    assert (mentor_task.role, mentor_task.status) == ("mentor", TaskStatus.READY)
    assert mentor_task.context["mentor_question"]["question"] == "Which database?"

    Task.objects.filter(pk=mentor_task.pk).update(status=TaskStatus.ALLOCATED)
    Task.objects.filter(pk=mentor_task.pk).update(status=TaskStatus.IN_PROGRESS)
    mentor_task.refresh_from_db()
    reply = RunFactory(
        status="running", task=mentor_task, outcome={"verb": "reply_mentor", "args": {"reply": "SQLite."}}
    )
    outcomes.settle(reply, now=NOW)

    task = Task.objects.get(pk=run.task_id)
    assert task.status == TaskStatus.READY
    assert task.context["mentor"] == [{"question": "Which database?", "reply": "SQLite."}]


def test_a_reply_that_nobody_waits_for_completes_the_mentors_task_only() -> None:
    asking = TaskFactory(status="cancelled")
    run = ended(
        TaskKind.MENTOR, "reply_mentor", {"reply": "Yes."}, role="mentor", context={"asking_task": str(asking.pk)}
    )

    outcomes.settle(run, now=NOW)

    asking.refresh_from_db()
    assert (run.status, asking.status) == (RunStatus.SUCCEEDED, TaskStatus.CANCELLED)


def test_who_is_blocked_asks_the_mentor_first() -> None:
    run = ended(TaskKind.BUILD, "task_blocked", {"reason": "no idea"})

    outcomes.settle(run, now=NOW)

    assert Task.objects.filter(kind=TaskKind.MENTOR).count() == 1
    assert not run.task.approvals.exists()


def test_who_is_blocked_after_the_mentors_advice_asks_a_person() -> None:
    run = ended(TaskKind.BUILD, "task_blocked", {"reason": "no idea"}, context={"mentor": [{"reply": "try"}]})

    outcomes.settle(run, now=NOW)

    assert run.task.approvals.get().kind == "blocked_task"
    assert not Task.objects.filter(kind=TaskKind.MENTOR).exists()


def test_giving_up_sets_the_task_back() -> None:
    run = ended(TaskKind.BUILD, "task_failed", {"reason": "too hard"})

    outcomes.settle(run, now=NOW)

    run.task.refresh_from_db()
    assert (run.status, run.task.status, run.task.attempts) == ("failed", TaskStatus.READY, 1)


def test_submitted_requirements_lead_to_the_plan_task() -> None:
    draft = {"title": "Lend a tool", "body": "", "acceptance_criteria": ["It is shown as out."]}
    args = {"project_name": "Tool library", "requirements": [draft]}
    run = ended(TaskKind.REQUIREMENTS, "submit_requirements", args, role="pm")

    outcomes.deliver(run, {"commit": "a" * 40}, now=NOW)

    run.project.refresh_from_db()
    assert run.project.name == "Tool library"
    assert run.project.requirements.get().title == "Lend a tool"
    assert run.project.tasks.get(kind=TaskKind.PLAN).status == TaskStatus.READY


def test_a_submitted_plan_waits_for_the_admin() -> None:
    node = {"key": "a", "title": "A", "role": "developer", "depends_on": [], "estimate_minutes": 5}
    run = ended(TaskKind.PLAN, "submit_plan", {"summary": "One step.", "tasks": [node]}, role="architect")

    outcomes.deliver(run, {}, now=NOW)

    assert run.project.plans.get().status == "proposed"
    assert run.project.approvals.get().kind == "plan"


CONFLICT = {"paths": ["a"], "detail": "", "main": "a" * 40, "commit": "b" * 40, "run": "r"}


def test_a_conflict_opens_its_task_with_the_end_of_the_run_or_not_at_all() -> None:
    run = ended(TaskKind.BUILD, "task_complete", {"summary": "Stored.", "result": {"passed": True}})
    ending = Ending(RunStatus.FAILED, "conflict", "Both changed a.", {"conflict": CONFLICT}, counts=False)
    Project.objects.filter(pk=run.project_id).update(status="cancelled")
    rows = AuditLog.objects.count()
    with pytest.raises(ProjectNotActive):
        outcomes.conflict(Run.objects.select_related("task__project", "agent").get(pk=run.pk), ending, now=NOW)
    assert AuditLog.objects.count() == rows
    assert Run.objects.get(pk=run.pk).is_active
    assert Task.objects.get().status == TaskStatus.IN_PROGRESS


def test_the_task_of_a_conflict_keeps_what_was_handed_in() -> None:
    run = ended(TaskKind.BUILD, "task_complete", {"summary": "Stored.", "result": {"passed": True}})
    ending = Ending(RunStatus.FAILED, "conflict", "Both changed a.", {"conflict": CONFLICT}, counts=False)
    outcomes.conflict(run, ending, now=NOW)
    opened = Task.objects.get(kind=TaskKind.CONFLICT)
    assert (opened.parent_id, opened.key) == (run.task_id, f"conflict-{run.pk.hex[-12:]}")
    waiting = Task.objects.get(pk=run.task_id)
    assert waiting.context["handed_in"] == {"summary": "Stored.", "returned": {"passed": True}}
    assert (waiting.reason, waiting.attempts, Recovery.objects.get(run=run).decision) == ("awaiting_merge", 0, "retry")


@pytest.mark.django_db(transaction=True)
def test_who_delivers_locks_tasks_in_the_order_of_all() -> None:
    """A plan may name a task before the one that it waits for: that one has the lower id."""
    waiting = TaskFactory(status="pending", unmet_count=1)
    task = TaskFactory(project=waiting.project, status="in_progress")
    TaskDependency.objects.create(id=new_id(), task=waiting, depends_on=task)
    run = RunFactory(status="running", task=task, outcome={"verb": "task_complete", "args": {"summary": "Done."}})
    run = Run.objects.select_related("task__project", "agent", "project").get(pk=run.pk)

    def deliver() -> None:
        try:
            outcomes.deliver(run, {"commit": "c" * 40}, now=NOW)
        finally:
            connection.close()

    thread = threading.Thread(target=deliver)
    with transaction.atomic():
        Task.objects.select_for_update().get(pk=waiting.pk)  # as who cancels: by id, and here now
        thread.start()
        wait_until(_somebody_waits)
        Task.objects.select_for_update(nowait=True).get(pk=task.pk)  # and goes on to there
    thread.join(60)

    assert Task.objects.get(pk=task.pk).status == TaskStatus.COMPLETED
    assert Task.objects.get(pk=waiting.pk).status == TaskStatus.READY


def _somebody_waits() -> bool:
    """Whether another transaction waits for this one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid")
        return bool(cursor.fetchone()[0])
