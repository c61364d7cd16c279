"""Every action alike: what it does is recorded and told once it is committed, and without a trace when it is not."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from pytest_django import DjangoCaptureOnCommitCallbacks

from projects import audit
from projects.actions import approvals, chat, main_job, new_tasks, plans, projects, settings, tasks, workflows
from projects.actions.approvals import Decision
from projects.actions.plans import RequirementDraft
from projects.actions.tasks import Setback
from projects.events import Published
from projects.ids import new_id
from projects.models import AuditChain, AuditLog, Notification, Project
from projects.roles import Role
from projects.states import ApprovalKind, Stage, TaskKind
from tests.factories import (
    COMMIT,
    NOW,
    TESTER,
    AgentFactory,
    ApprovalFactory,
    DemoFactory,
    NotificationFactory,
    PlanFactory,
    ProjectFactory,
    RequirementFactory,
    TaskFactory,
)
from tests.projects import lives

pytestmark = pytest.mark.django_db
Act = Callable[[], object]
SCENARIOS: dict[str, tuple[Callable[..., Any], list[str], Callable[[], Act]]] = {}
OOPS = Setback("tests_failed", "1 of 3 failed.")
WHO = {"by": TESTER, "now": NOW}


def scenario(action: Callable[..., Any], *recorded: str) -> Callable[[Callable[[], Act]], Callable[[], Act]]:
    """Register a way to call `action`: the function arranges and returns the call. `recorded` is what it writes."""

    def register(arrange: Callable[[], Act]) -> Callable[[], Act]:
        SCENARIOS[arrange.__name__] = (action, list(recorded), arrange)
        return arrange

    return register


def at_stage(stage: Stage, **fields: Any) -> Project:
    """A project whose main job is at a stage, from where it goes on."""
    workflows.load_shipped(**WHO)
    project = ProjectFactory(**fields)
    main_job.reached(project, list(Stage)[list(Stage).index(stage) - 1], {"decision": "approve"}, **WHO)
    return project


@scenario(projects.create_project, "project.created", "chat.posted", "execution.started", "task.ready")
def create_project() -> Act:
    workflows.load_shipped(**WHO)
    return partial(projects.create_project, projects.NewProject("We lend tools."), **WHO)


@scenario(projects.refuse_brief, "brief.refused")
def refuse_brief() -> Act:
    return partial(projects.refuse_brief, " ", "The brief is empty.", **WHO)


@scenario(projects.ask_for_requirements, "task.ready")
def ask_for_requirements() -> Act:
    return partial(projects.ask_for_requirements, ProjectFactory(), **WHO)


@scenario(projects.begin_demos, "project.demo")
def begin_demos() -> Act:
    return partial(projects.begin_demos, ProjectFactory(), **WHO)


@scenario(projects.ask_for_demo, "task.ready")
def ask_for_demo() -> Act:
    return partial(projects.ask_for_demo, ProjectFactory(status="demo"), feedback=[], **WHO)


@scenario(projects.begin_building, "project.building")
def begin_building() -> Act:
    project = ProjectFactory(status="demo")
    demo = DemoFactory(project=project, status="approved")
    return partial(projects.begin_building, project, demo_id=demo.pk, commit=COMMIT, **WHO)


@scenario(projects.complete_project, "execution.completed", "project.complete", "notification.sent", "chat.posted")
def complete_project() -> Act:
    project = at_stage(Stage.DELIVERY, status="building")
    TaskFactory(project=project, status="completed")
    return partial(projects.complete_project, project, commit=COMMIT, **WHO)


@scenario(projects.pause_project, "project.paused")
def pause_project() -> Act:
    return partial(projects.pause_project, ProjectFactory(), reason="", **WHO)


@scenario(projects.resume_project, "project.demo")
def resume_project() -> Act:
    return partial(projects.resume_project, ProjectFactory(status="paused", paused_from="demo"), **WHO)


@scenario(projects.cancel_project, "project.cancelled", "task.cancelled")
def cancel_project() -> Act:
    return partial(projects.cancel_project, TaskFactory().project, reason="", **WHO)


@scenario(projects.archive_project, "project.archived")
def archive_project() -> Act:
    return partial(projects.archive_project, ProjectFactory(status="complete"), **WHO)


@scenario(projects.record_budget, "project.budget_recorded")
def record_budget() -> Act:
    return partial(projects.record_budget, ProjectFactory(), limit=Decimal(9), spent=Decimal(1), **WHO)


@scenario(plans.record_requirements, "requirements.recorded", "chat.posted", "task.ready")
def record_requirements() -> Act:
    project = ProjectFactory()
    workflows.load_shipped(**WHO)
    main_job.open_main_job(project, **WHO)
    drafts = [RequirementDraft("Lend", "", ["Lent."])]
    return partial(plans.record_requirements, project, "Lendery", drafts, **WHO)


@scenario(plans.ask_for_plan, "task.ready")
def ask_for_plan() -> Act:
    return partial(plans.ask_for_plan, ProjectFactory(), **WHO)


@scenario(plans.propose_plan, "plan.proposed", "approval.asked", "notification.sent", "chat.posted")
def propose_plan() -> Act:
    return partial(plans.propose_plan, at_stage(Stage.PLAN), "Small.", lives.NODES, **WHO)


@scenario(plans.decide_plan, "approval.decided", "chat.posted", "plan.active", "project.demo", "task.ready")
def approve_plan() -> Act:
    return partial(approvals.decide, lives.planned().pk, Decision("approve"), **WHO)


@scenario(plans.decide_plan, "approval.decided", "chat.posted", "plan.amended", "task.ready")
def amend_plan() -> Act:
    return partial(approvals.decide, lives.planned().pk, Decision("amend", "Smaller."), **WHO)


@scenario(plans.start_building, "project.building", "task.ready", "task.pending")
def start_building() -> Act:
    project = ProjectFactory(status="demo")
    PlanFactory(project=project, status="active")
    demo = DemoFactory(project=project, status="approved")
    return partial(plans.start_building, project, demo_id=demo.pk, commit=COMMIT, **WHO)


@scenario(approvals.ask, "approval.asked", "notification.sent")
def ask() -> Act:
    return partial(approvals.ask, ProjectFactory(), ApprovalKind.PLAN, subject_id=new_id(), title="Plan 1", **WHO)


@scenario(approvals.decide, "approval.decided", "chat.posted", "task.failed")
def decide() -> Act:
    task = TaskFactory(status="blocked")
    approval = ApprovalFactory(project=task.project, task=task, kind="blocked_task")
    return partial(approvals.decide, approval.pk, Decision("give_up", "Enough."), **WHO)


@scenario(approvals.withdraw, "approval.withdrawn")
def withdraw() -> Act:
    return partial(approvals.withdraw, [ApprovalFactory()], reason="", **WHO)


@scenario(approvals.take_defaults, "approval.decided", "chat.posted", "task.ready")
def take_defaults() -> Act:
    task = TaskFactory(status="blocked")
    asked = [{"question": "Which?", "options": [], "recommended": "blue"}]
    ApprovalFactory(
        project=task.project,
        task=task,
        kind="question",
        options=[{"value": "answer", "label": "Answer"}],
        questions=asked,
        default_option="answer",
        deadline_at=NOW,
    )
    return partial(approvals.take_defaults, **WHO)


@scenario(approvals.choose_without_answer, "project.without_answer")
def choose_without_answer() -> Act:
    return partial(approvals.choose_without_answer, ProjectFactory(), {ApprovalKind.PLAN: "approve"}, **WHO)


@scenario(approvals.escalate_overdue, "approval.escalated", "notification.sent")
def escalate_overdue() -> Act:
    ApprovalFactory(deadline_at=NOW)
    return partial(approvals.escalate_overdue, **WHO)


@scenario(chat.post_message, "chat.posted")
def post_message() -> Act:
    return partial(chat.post_message, ProjectFactory(), "Hello.", **WHO)


@scenario(chat.notify, "notification.sent")
def notify() -> Act:
    return partial(chat.notify, None, level=Notification.Level.INFO, title="Hello", **WHO)


@scenario(chat.mark_read, "notification.read")
def mark_read() -> Act:
    NotificationFactory()
    return partial(chat.mark_read, **WHO)


@scenario(new_tasks.create_task, "task.ready")
def create_task() -> Act:
    return partial(new_tasks.create_task, ProjectFactory(), TaskKind.DEMO, key="d", role=Role.QA, title="D", **WHO)


@scenario(new_tasks.create_build_tasks, "task.ready")
def create_build_tasks() -> Act:
    other = TaskFactory()
    made = TaskFactory.build(project=other.project, plan=other.plan)
    return partial(new_tasks.create_build_tasks, other.project, [made], [], **WHO)


@scenario(tasks.allocate_tasks, "task.allocated")
def allocate_tasks() -> Act:
    task = TaskFactory()
    return partial(tasks.allocate_tasks, [(task, AgentFactory(project=task.project).pk)], **WHO)


@scenario(tasks.start_tasks, "task.started")
def start_tasks() -> Act:
    return partial(tasks.start_tasks, [TaskFactory(status="allocated")], **WHO)


@scenario(tasks.report_progress, "task.progress")
def report_progress() -> Act:
    return partial(tasks.report_progress, TaskFactory(status="in_progress"), 50, "Half.", **WHO)


@scenario(tasks.review_task, "task.review")
def review_task() -> Act:
    return partial(tasks.review_task, TaskFactory(status="in_progress"), **WHO)


@scenario(tasks.complete_task, "task.completed", "task.ready")
def complete_task() -> Act:
    task = TaskFactory(status="review")
    TaskFactory(project=task.project, status="pending", depends_on=[task])
    return partial(tasks.complete_task, task, {}, **WHO)


@scenario(tasks.set_back, "task.set_back")
def set_back() -> Act:
    return partial(tasks.set_back, TaskFactory(status="review"), OOPS, **WHO)


@scenario(tasks.set_back, "task.blocked", "approval.asked", "notification.sent")
def set_back_last() -> Act:
    return partial(tasks.set_back, TaskFactory(status="review", attempts=2), OOPS, **WHO)


@scenario(tasks.block_task, "task.blocked")
def block_task() -> Act:
    return partial(tasks.block_task, TaskFactory(status="review"), OOPS, ask_person=False, **WHO)


@scenario(tasks.unblock_task, "task.ready")
def unblock_task() -> Act:
    return partial(tasks.unblock_task, TaskFactory(status="blocked"), {"a": 1}, **WHO)


@scenario(tasks.fail_task, "task.failed")
def fail_task() -> Act:
    return partial(tasks.fail_task, TaskFactory(status="blocked"), reason="given_up", detail="", **WHO)


@scenario(tasks.cancel_open_tasks, "task.cancelled", "approval.withdrawn")
def cancel_open_tasks() -> Act:
    task = TaskFactory(status="blocked")
    ApprovalFactory(project=task.project, task=task, kind="blocked_task")
    return partial(tasks.cancel_open_tasks, task.project, reason="", **WHO)


@scenario(tasks.ask_questions, "task.blocked", "approval.asked", "notification.sent")
def ask_questions() -> Act:
    return partial(tasks.ask_questions, TaskFactory(status="in_progress"), [{"question": "Why?"}], **WHO)


@scenario(tasks.decide_questions, "approval.decided", "chat.posted", "task.ready")
def decide_questions() -> Act:
    approval = tasks.ask_questions(TaskFactory(status="in_progress"), [{"question": "Why?"}], **WHO)
    return partial(approvals.decide, approval.pk, Decision("answer", answers=["So."]), **WHO)


@scenario(tasks.decide_blocked, "approval.decided", "chat.posted", "task.ready")
def decide_blocked() -> Act:
    task = TaskFactory(status="blocked")
    approval = ApprovalFactory(project=task.project, task=task, kind="blocked_task")
    return partial(approvals.decide, approval.pk, Decision("retry"), **WHO)


@scenario(settings.add_row, "requirement.added")
def add_row() -> Act:
    return partial(settings.add_row, RequirementFactory.build(project=ProjectFactory()), **WHO)


@scenario(settings.change_row, "squad.changed")
def change_row() -> Act:
    return partial(settings.change_row, ProjectFactory().squad, {"max_concurrent_runs": 9}, **WHO)


def test_every_action_has_a_scenario() -> None:
    modules = (projects, plans, tasks, new_tasks, approvals, chat, settings)
    actions = {
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and "by" in inspect.signature(function).parameters and name[0] != "_"
    }
    assert actions == {action for action, _, _ in SCENARIOS.values()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_committed_action_is_recorded_and_told(
    name: str, published: list[Published], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    _, recorded, arrange = SCENARIOS[name]
    act = arrange()
    before = set(AuditLog.objects.values_list("pk", flat=True))
    with django_capture_on_commit_callbacks(execute=True):
        act()
    rows = list(AuditLog.objects.exclude(pk__in=before).order_by("pk"))
    assert [row.action for row in rows] == recorded
    assert [row.id for row in published] == [row.pk for row in rows]
    assert {(row.actor_name, row.timestamp) for row in rows} == {("tests", NOW)}
    for chain in AuditChain.objects.all():
        lives.check_whole(chain.key)


@pytest.mark.parametrize("name", SCENARIOS)
def test_action_rolled_back_leaves_no_trace(
    name: str, published: list[Published], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    act = SCENARIOS[name][2]()
    before = snapshot()
    with (
        django_capture_on_commit_callbacks(execute=True) as callbacks,
        suppress(ZeroDivisionError),
        audit.journal(by=TESTER, now=NOW),
    ):
        act()
        assert snapshot() != before or name == "refuse_brief"  # which changes nothing but the log
        raise ZeroDivisionError
    assert snapshot() == before
    assert (callbacks, published) == ([], [])


def snapshot() -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of projects."""
    models = apps.get_app_config("projects").get_models()
    return {model.__name__: list(model._default_manager.order_by("pk").values()) for model in models}
