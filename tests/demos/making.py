"""Projects and demos for tests, brought about by the actions that bring them about in life."""

from datetime import UTC, datetime, timedelta
from typing import Any

from agents.models import Agent
from agents.states import AgentStatus
from demos import actions
from demos.addresses import new_token
from demos.models import Demo
from projects.actions import approvals, plans, projects, tasks
from projects.actors import Actor
from projects.models import Approval, AuditLog, Project, Task
from projects.plans import PlannedTask
from projects.roles import Role
from projects.states import OPEN_APPROVAL, ApprovalKind, TaskKind

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ADMIN = Actor.system("admin of the tests")
LATER = NOW + timedelta(days=8)
COMMIT = "c" * 40


def make_project(*, now: datetime = NOW) -> Project:
    """A project whose plan was approved a moment ago: its first demo task is ready."""
    project = projects.create_project(projects.NewProject("A shop that sells tea."), by=ADMIN, now=now)
    plans.record_requirements(project, "", [plans.RequirementDraft("Sell", "", ["Sold."])], by=ADMIN, now=now)
    nodes = [PlannedTask("storage", "Store", "developer"), PlannedTask("pages", "Show", "developer", "", ("storage",))]
    plans.propose_plan(project, "Two steps.", nodes, by=ADMIN, now=now)
    plan_question = Approval.objects.get(project=project, kind=ApprovalKind.PLAN)
    approvals.decide(plan_question.pk, approvals.Decision("approve"), by=ADMIN, now=now)
    project.refresh_from_db()
    return project


def complete_demo_task(
    project: Project, *, commit: str = COMMIT, summary: str = "It sells.", now: datetime = NOW
) -> Task:
    """Have the project's open demo task done by a developer."""
    task = project.tasks.filter(kind=TaskKind.DEMO).latest("pk")
    agent, _ = Agent.objects.get_or_create(
        project=project,
        name="developer-1",
        defaults={"agent_type": Role.DEVELOPER, "status": AgentStatus.READY, "created_at": now},
    )
    tasks.allocate_tasks([(task, agent.pk)], by=ADMIN, now=now)
    tasks.start_tasks([task], by=ADMIN, now=now)
    tasks.review_task(task, by=ADMIN, now=now)
    tasks.complete_task(task, {"commit": commit, "summary": summary}, by=ADMIN, now=now)
    task.refresh_from_db()
    return task


def open_demo(project: Project, *, commit: str = COMMIT, now: datetime = NOW) -> Demo:
    """A demo whose preview is being started."""
    task = complete_demo_task(project, commit=commit, now=now)
    return actions.open_demo(task, commit=commit, summary="It sells.", token=new_token(), now=now, by=ADMIN)


def ready_demo(project: Project, *, address: str = "127.0.0.1:1", commit: str = COMMIT, now: datetime = NOW) -> Demo:
    """A demo that waits for its decision."""
    demo = open_demo(project, commit=commit, now=now)
    actions.mark_ready(demo, sandbox="demo-1", address=address, now=now, by=ADMIN)
    return demo


def question_of(demo: Demo) -> Approval:
    """The open decision about a demo."""
    return Approval.objects.get(kind=ApprovalKind.DEMO, subject_id=demo.pk, status__in=OPEN_APPROVAL)


def decide(demo: Demo, option: str, comment: str = "", *, by: Actor = ADMIN, now: datetime = NOW) -> None:
    """Decide a demo as a person would; the demo and its project are read anew."""
    approvals.decide(question_of(demo).pk, approvals.Decision(option, comment), by=by, now=now)
    again(demo)


def again(demo: Demo) -> Demo:
    """Read a demo and its project anew."""
    demo.refresh_from_db()
    demo.project.refresh_from_db()
    return demo


def demo_tasks(project: Project) -> list[Task]:
    """The project's demo tasks in order."""
    return list(project.tasks.filter(kind=TaskKind.DEMO).order_by("pk"))


def recorded(action: str) -> list[dict[str, Any]]:
    """The details of all audit rows of an action."""
    return list(AuditLog.objects.filter(action=action).order_by("seq").values_list("details", flat=True))
