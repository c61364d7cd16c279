"""Short ways through the life of a project, by the actions themselves."""

from collections.abc import Sequence
from uuid import UUID

from django.db.models import Count, Q

from projects import audit
from projects.actions import approvals, main_job, plans, projects, tasks
from projects.actions.approvals import Decision
from projects.models import Approval, AuditChain, AuditLog, Plan, Project, Task
from projects.plans import PlannedTask
from projects.states import ACTIVE_PROJECT, OPEN_APPROVAL, ApprovalStatus, ProjectStatus, Stage, TaskKind
from tests.factories import COMMIT, NOW, TESTER, AgentFactory, DemoFactory

NODES = (
    PlannedTask("storage", "Store", "developer"),
    PlannedTask("pages", "Show", "developer", depends_on=("storage",)),
    PlannedTask("report", "Report", "developer", depends_on=("storage",)),
    PlannedTask("review", "Review", "qa", depends_on=("pages", "report")),
)


def planned(nodes: Sequence[PlannedTask] = NODES) -> Approval:
    """A new project with a proposed plan; return the decision it waits for."""
    project = projects.create_project(projects.NewProject("We lend tools."), by=TESTER, now=NOW)
    plans.record_requirements(project, "", [plans.RequirementDraft("Lend", "", ["Lent."])], by=TESTER, now=NOW)
    return propose(project, nodes)


def propose(project: Project, nodes: Sequence[PlannedTask] = NODES) -> Approval:
    """Propose a plan; return the decision it waits for."""
    plan = plans.propose_plan(project, "In three steps.", nodes, by=TESTER, now=NOW)
    return Approval.objects.get(subject_id=plan.pk, status=ApprovalStatus.PENDING)


def decide(approval: Approval, option: str, comment: str = "", answers: Sequence[str] = ()) -> Approval:
    """Take a decision."""
    return approvals.decide(approval.pk, Decision(option, comment, answers), by=TESTER, now=NOW)


def building(nodes: Sequence[PlannedTask] = NODES) -> dict[str, Task]:
    """A project that is being built; return its build tasks by key."""
    approval = planned(nodes)
    decide(approval, "approve")
    project = Project.objects.get(pk=approval.project_id)
    build(project)
    return {task.key: task for task in project.tasks.filter(kind=TaskKind.BUILD)}


def build(project: Project) -> None:
    """Have a project built after a demo that was approved."""
    if not project.demos.filter(status="approved").exists():
        DemoFactory(project=project, status="approved", commit=COMMIT)
    main_job.reached(project, Stage.DEMO, by=TESTER, now=NOW)
    main_job.reached(project, Stage.DEMO_APPROVAL, {"decision": "approve"}, by=TESTER, now=NOW)


def begin(task: Task) -> Task:
    """Allocate and start a ready task; return it as it is in the database."""
    task = Task.objects.select_related("project").get(pk=task.pk)
    tasks.allocate_tasks([(task, AgentFactory(project=task.project).pk)], by=TESTER, now=NOW)
    tasks.start_tasks([task], by=TESTER, now=NOW)
    return task


def complete(task: Task) -> list[UUID]:
    """Take a ready task to its end; return the ids of the tasks that it made ready."""
    return tasks.complete_task(begin(task), {"summary": "Done."}, by=TESTER, now=NOW)


def check_whole(chain: str) -> None:
    """Fail unless the audit chain verifies."""
    head = AuditChain.objects.get(key=chain)
    assert audit.verify(AuditLog.objects.filter(chain=chain).order_by("seq"), head) is None


def check_invariants(project: Project) -> None:
    """Fail unless everything that must hold for a project at any time holds now."""
    project.refresh_from_db()
    unmet = Count("dependency_edges", filter=~Q(dependency_edges__depends_on__status="completed"))
    for task in project.tasks.annotate(really_unmet=unmet):
        assert task.unmet_count == task.really_unmet, task
        assert task.unmet_count == 0 or task.status in {"pending", "cancelled"}, task
        assert task.unmet_count > 0 or task.status != "pending", f"{task} waits for nothing"
    assert Plan.objects.filter(project=project, status="active").count() <= 1
    if project.status in {ProjectStatus.CANCELLED, ProjectStatus.ARCHIVED}:
        assert not project.approvals.filter(status__in=OPEN_APPROVAL).exists()
        assert not project.tasks.exclude(status__in=["completed", "cancelled"]).exists()
    assert bool(project.paused_from) == (project.status == ProjectStatus.PAUSED)
    assert project.paused_from in {"", *ACTIVE_PROJECT}
    check_whole(str(project.pk))
