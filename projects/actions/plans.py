"""Requirements and plans: taken from the agents, put before the admin, turned into tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max

from projects import audit
from projects.actions import approvals, main_job, projects, tasks
from projects.actions.chat import post_message
from projects.actors import Actor
from projects.briefs import clean_name
from projects.errors import InvalidRequirements, ProjectNotActive, StaleState
from projects.ids import new_id
from projects.jsontext import storable_json, storable_text
from projects.models import Approval, Plan, Project, Requirement, Task
from projects.naming import free_name
from projects.plans import PlannedTask, check_plan
from projects.roles import Role
from projects.states import (
    PLAN_TRANSITIONS,
    ApprovalKind,
    PlanStatus,
    ProjectStatus,
    Stage,
    TaskKind,
    TaskStatus,
)
from projects.transitions import step

MAX_REQUIREMENTS = 50


@dataclass(frozen=True)
class RequirementDraft:
    """One requirement, as the product manager submits it."""

    title: str
    body: str = ""
    acceptance_criteria: Sequence[str] = field(default_factory=tuple)


def check_requirements(drafts: Sequence[RequirementDraft]) -> None:
    """Raise InvalidRequirements unless there are 1 to 50, each with a title and a criterion."""
    if not 1 <= len(drafts) <= MAX_REQUIREMENTS:
        raise InvalidRequirements(f"Submit 1 to {MAX_REQUIREMENTS} requirements, not {len(drafts)}.")
    for number, draft in enumerate(drafts, 1):
        if not draft.title.strip():
            raise InvalidRequirements(f"Requirement {number} has no title.")
        if not any(criterion.strip() for criterion in draft.acceptance_criteria):
            raise InvalidRequirements(f"Requirement {number} has no acceptance criterion.")


def record_requirements(
    project: Project, name: str, drafts: Sequence[RequirementDraft], *, by: Actor, now: datetime
) -> None:
    """Store what the product manager wrote, name the project, and have the architect plan it.

    Raises InvalidRequirements, ProjectNotActive once the project left planning.
    """
    check_requirements(drafts)
    _check_planning(project)
    with audit.journal(by=by, now=now) as journal:
        project.requirements.all().delete()
        Requirement.objects.bulk_create(
            Requirement(
                id=new_id(),
                project=project,
                key=f"R{number}",
                position=number,
                title=storable_text(draft.title, max_chars=255),
                body=storable_text(draft.body, max_chars=20_000),
                acceptance_criteria=storable_json(list(draft.acceptance_criteria), max_chars=2_000),
                created_at=now,
            )
            for number, draft in enumerate(drafts, 1)
        )
        if (cleaned := clean_name(name)) and not project.config.get("named_by_person"):
            project.name = free_name(cleaned, project_id=project.pk)
            Project.objects.filter(pk=project.pk).update(name=project.name)
        journal.add("requirements.recorded", project_id=project.pk, obj=project, details={"count": len(drafts)})
        listed = "\n".join(f"- {draft.title}" for draft in drafts)
        post_message(project, f"I wrote the requirements:\n\n{listed}", by=by, now=now)
        main_job.reached(project, Stage.REQUIREMENTS, {"count": len(drafts)}, by=by, now=now)


def ask_for_plan(project: Project, *, by: Actor, now: datetime) -> Task:
    """Make the architect's task; what was corrected before goes with it."""
    corrections = project.corrections.filter(approval__kind=ApprovalKind.PLAN).order_by("created_at")
    number = project.tasks.filter(kind=TaskKind.PLAN).count() + 1
    return tasks.create_task(
        project,
        TaskKind.PLAN,
        key=f"plan-{number}",
        role=Role.ARCHITECT,
        title="Plan the work" if number == 1 else f"Plan the work, version {number}",
        context={"corrections": list(corrections.values_list("text", flat=True))},
        by=by,
        now=now,
    )


def propose_plan(project: Project, summary: str, nodes: Sequence[PlannedTask], *, by: Actor, now: datetime) -> Plan:
    """Store a plan and ask the admin about it.

    Raises InvalidPlan, ProjectNotActive once the project left planning, StaleState while another plan is undecided or
    active.
    """
    check_plan(nodes)
    _check_planning(project)
    before = project.plans.filter(status__in=[PlanStatus.PROPOSED, PlanStatus.ACTIVE]).first()
    if before is not None:
        is_active = before.status == PlanStatus.ACTIVE
        raise StaleState(f"A plan of {project.name} already {'was approved' if is_active else 'waits for a decision'}.")
    with audit.journal(by=by, now=now) as journal:
        newest = project.plans.aggregate(newest=Max("version"))["newest"] or 0
        plan = Plan.objects.create(
            id=new_id(),
            project=project,
            version=newest + 1,
            summary=storable_text(summary, max_chars=20_000),
            content=storable_json([node.to_json() for node in nodes], max_chars=8_000),
            created_at=now,
        )
        journal.add("plan.proposed", project_id=project.pk, obj=plan, details={"tasks": len(nodes)})
        minutes = sum(node.estimate_minutes for node in nodes)
        approvals.ask(
            project,
            ApprovalKind.PLAN,
            subject_id=plan.pk,
            title=f"Plan {plan.version} of {project.name}: {len(nodes)} tasks",
            body=f"{plan.summary}\n\nEstimate: {minutes} minutes of agents' work.",
            by=by,
            now=now,
        )
        post_message(project, f"Plan {plan.version} is ready for your decision.\n\n{plan.summary}", by=by, now=now)
        main_job.reached(project, Stage.PLAN, {"version": plan.version, "tasks": len(nodes)}, by=by, now=now)
    return plan


def _check_planning(project: Project) -> None:
    """Raise ProjectNotActive unless the project is planned, paused or not: later its tasks are made already."""
    if (project.paused_from or project.status) != ProjectStatus.PLANNING:
        status = ProjectStatus(project.status).label.lower()
        raise ProjectNotActive(f"{project.name} is {status}: its plan cannot be changed any more.")


def decide_plan(approval: Approval, decision: approvals.Decision, by: Actor, now: datetime) -> None:
    """Make a plan the active one and start the first demo, or have it made anew with the correction."""
    plan = Plan.objects.select_for_update(of=("self",)).select_related("project").get(pk=approval.subject_id)
    results = {"approve": PlanStatus.ACTIVE, "amend": PlanStatus.AMENDED, "reject": PlanStatus.REJECTED}
    with audit.journal(by=by, now=now) as journal:
        step(plan, results[decision.option], table=PLAN_TRANSITIONS, decided_at=now)
        journal.add(f"plan.{plan.status}", project_id=plan.project_id, obj=plan)
        if plan.status == PlanStatus.ACTIVE:
            projects.check_active(plan.project)
        decided = {"decision": decision.option, "version": plan.version}
        main_job.reached(plan.project, Stage.PLAN_APPROVAL, decided, by=by, now=now)


def start_building(
    project: Project,
    *,
    demo_id: UUID,
    commit: str,
    feedback: Sequence[dict[str, Any]] = (),
    by: Actor,
    now: datetime,
) -> list[Task]:
    """Build what the approved demo showed: turn the active plan into tasks; those that wait for nothing are ready.

    The demo must be approved at `commit`: the database refuses anything else. Each task is told the `feedback` on all
    demos, as in `projects.ask_for_demo`.
    """
    plan = project.plans.get(status=PlanStatus.ACTIVE)
    nodes = [PlannedTask.from_json(data) for data in plan.content]
    with audit.journal(by=by, now=now):
        projects.begin_building(project, demo_id=demo_id, commit=commit, by=by, now=now)
        made, edges = tasks.new_build_tasks(
            project, [(_task_of(plan, node, rank, feedback, now), node.depends_on) for rank, node in enumerate(nodes)]
        )
        tasks.create_build_tasks(project, made, edges, by=by, now=now)
    return made


def _task_of(plan: Plan, node: PlannedTask, rank: int, feedback: Sequence[dict[str, Any]], now: datetime) -> Task:
    ready = not node.depends_on
    return Task(
        id=new_id(),
        project=plan.project,
        plan=plan,
        kind=TaskKind.BUILD,
        key=node.key,
        role=node.role,
        specialisation=node.specialisation,
        title=node.title[:255],
        description=node.description,
        acceptance_criteria=list(node.acceptance_criteria),
        estimate_minutes=node.estimate_minutes,
        context={"feedback": list(feedback)} if feedback else {},
        # Of equals the earlier in the plan goes first.
        priority=-rank,
        status=TaskStatus.READY if ready else TaskStatus.PENDING,
        unmet_count=len(node.depends_on),
        ready_at=now if ready else None,
        next_attempt_at=now,
        created_at=now,
    )


approvals.register(ApprovalKind.PLAN, decide_plan)
main_job.register(Stage.PLAN, ask_for_plan)
