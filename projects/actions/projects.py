"""The life of a project: from a brief to the delivered repository."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings

from projects import audit, queries
from projects.actions import main_job, tasks
from projects.actions.chat import notify, post_message
from projects.actors import Actor
from projects.briefs import check_brief, clean_name, name_from
from projects.errors import DomainError, InvalidBrief, ProjectNotActive
from projects.events import PROJECT_CREATED, PROJECT_STATUS, Event
from projects.ids import new_id
from projects.jsontext import storable_text
from projects.models import Notification, Project, Squad, SquadMember
from projects.naming import free_name
from projects.roles import Role
from projects.states import (
    ACTIVE_PROJECT,
    MAIN_JOB,
    OPEN_EXECUTION,
    PROJECT_TRANSITIONS,
    ProjectStatus,
    Stage,
    TaskKind,
)
from projects.transitions import step

# A small house: two developers work side by side, everybody else is there once.
DEFAULT_SQUAD: dict[Role, int] = dict.fromkeys(Role, 1) | {Role.DEVELOPER: 2}
MAX_BUDGET = Decimal(10_000_000)
_MAX_REASON = 500


@dataclass(frozen=True)
class NewProject:
    """What a person enters. Name and client may be empty; the limit is in the account's currency."""

    brief: str
    name: str = ""
    client_name: str = ""
    budget_limit: Decimal | None = None


def refuse_brief(brief: str, reason: str, *, by: Actor, now: datetime) -> None:
    """Record that somebody's brief was not taken, and how long it was. What it says is not kept."""
    with audit.journal(by=by, now=now) as journal:
        journal.add("brief.refused", details={"reason": reason, "characters": len(brief)})


def create_project(draft: NewProject, *, by: Actor, now: datetime) -> Project:
    """Open a project, with its squad and the product manager's first task.

    Raises InvalidBrief, or DomainError for a limit that no account can have.
    """
    try:
        brief = check_brief(draft.brief)
    except InvalidBrief as problem:
        refuse_brief(draft.brief, str(problem), by=by, now=now)
        raise
    name = clean_name(draft.name)
    limit = draft.budget_limit if draft.budget_limit is not None else settings.EKLAVYA_BUDGET_LIMIT
    if not (limit.is_finite() and 0 <= limit <= MAX_BUDGET):
        raise DomainError(f"The budget must be between 0 and {MAX_BUDGET:,}.")
    with audit.journal(by=by, now=now) as journal:
        project = Project.objects.create(
            id=new_id(),
            name=name or free_name(name_from(brief)),
            client_name=clean_name(draft.client_name),
            description=brief,
            budget_limit=limit,
            currency=settings.EKLAVYA_CURRENCY,
            config={"named_by_person": True} if name else {},
            created_by_id=by.user_id,
            created_at=now,
        )
        _gather_squad(project, now)
        journal.add(
            "project.created",
            project_id=project.pk,
            obj=project,
            details={
                "name": project.name,
                "client": project.client_name,
                "budget_limit": project.budget_limit,
            },
            event=Event(
                PROJECT_CREATED,
                {"projectId": project.pk, "name": project.name, "clientName": project.client_name},
            ),
        )
        post_message(project, brief, by=by, now=now)
        main_job.open_main_job(project, by=by, now=now)
    return project


def ask_for_requirements(project: Project, *, by: Actor, now: datetime) -> None:
    """Have the product manager write them."""
    tasks.create_task(
        project,
        TaskKind.REQUIREMENTS,
        key="requirements",
        role=Role.PM,
        title="Write the requirements",
        by=by,
        now=now,
    )


def _gather_squad(project: Project, now: datetime) -> None:
    squad = Squad.objects.create(id=new_id(), project=project, created_at=now)
    SquadMember.objects.bulk_create(
        SquadMember(id=new_id(), squad=squad, role=role, count=count, model=settings.EKLAVYA_DEFAULT_MODEL)
        for role, count in DEFAULT_SQUAD.items()
    )


def begin_demos(project: Project, *, by: Actor, now: datetime) -> None:
    """Go from planning to demos. The project must have an active plan.

    Raises ProjectNotActive while it is paused: the table lets a paused project go back, but nowhere else.
    """
    check_active(project)
    _move(project, ProjectStatus.DEMO, by=by, now=now)


def ask_for_demo(project: Project, *, feedback: list[dict[str, Any]], by: Actor, now: datetime) -> None:
    """Have a developer build a demo. `feedback` is [{"demo", "text"}] of the ones before."""
    number = project.tasks.filter(kind=TaskKind.DEMO).count() + 1
    tasks.create_task(
        project,
        TaskKind.DEMO,
        key=f"demo-{number}",
        role=Role.DEVELOPER,
        title=f"Build demo {number}",
        context={"feedback": feedback},
        by=by,
        now=now,
    )


def begin_building(project: Project, *, demo_id: UUID, commit: str, by: Actor, now: datetime) -> None:
    """Go from demos to building what the approved demo showed. Raises ProjectNotActive while it is paused."""
    check_active(project)
    _move(project, ProjectStatus.BUILDING, approved_demo_id=demo_id, approved_demo_commit=commit, by=by, now=now)


def complete_project(project: Project, *, commit: str, by: Actor, now: datetime) -> None:
    """Deliver: `commit` was verified in a fresh clone. Every build task must be completed."""
    with audit.journal(by=by, now=now):
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)  # so that nothing is started meanwhile
        unfinished = queries.unfinished_builds(project).count()
        if unfinished:
            raise ProjectNotActive(f"{unfinished} tasks are not completed yet.")
        if project.executions.filter(status__in=OPEN_EXECUTION).exclude(workflow__key=MAIN_JOB).exists():
            raise ProjectNotActive("A workflow is still being carried out in it.")
        main_job.check_at(project, Stage.DELIVERY)
        main_job.reached(project, Stage.DELIVERY, {"commit": commit}, by=by, now=now)
        _move(project, ProjectStatus.COMPLETE, delivered_commit=commit, completed_at=now, by=by, now=now)
        notify(
            project,
            level=Notification.Level.INFO,
            title=f"{project.name} is delivered",
            message="The repository can be cloned or downloaded.",
            links=[{"label": "Open project", "url": f"/projects/{project.pk}/"}],
            by=by,
            now=now,
        )
        post_message(project, f"The project is delivered at commit `{commit[:12]}`.", by=by, now=now)


def pause_project(project: Project, *, reason: str, by: Actor, now: datetime) -> None:
    """Stop starting work. `agents` ends the active runs; their tasks go on after `resume_project`."""
    why = storable_text(reason, max_chars=_MAX_REASON)
    with audit.journal(by=by, now=now):
        _move(project, ProjectStatus.PAUSED, paused_from=project.status, status_reason=why, by=by, now=now)
        main_job.pause(project, by=by, now=now)


def resume_project(project: Project, *, by: Actor, now: datetime) -> None:
    """Go on where the project was paused."""
    with audit.journal(by=by, now=now):
        # Paused, resumed and paused again since it was read, it would go back to the wrong phase: look under a lock.
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if not project.paused_from:
            raise ProjectNotActive("This project is not paused.")
        _move(project, ProjectStatus(project.paused_from), paused_from="", status_reason="", by=by, now=now)
        main_job.resume(project, by=by, now=now)


def cancel_project(project: Project, *, reason: str, by: Actor, now: datetime) -> None:
    """Give a project up: its open tasks are cancelled and its questions withdrawn. Nothing is deleted."""
    with audit.journal(by=by, now=now):
        why = storable_text(reason, max_chars=_MAX_REASON)
        _move(project, ProjectStatus.CANCELLED, paused_from="", status_reason=why, by=by, now=now)
        tasks.cancel_open_tasks(project, reason="project_cancelled", by=by, now=now)


def archive_project(project: Project, *, by: Actor, now: datetime) -> None:
    """Put a finished or paused project away, with what was still open in it."""
    with audit.journal(by=by, now=now):
        _move(project, ProjectStatus.ARCHIVED, paused_from="", by=by, now=now)
        tasks.cancel_open_tasks(project, reason="project_archived", by=by, now=now)


def record_budget(project: Project, *, limit: Decimal, spent: Decimal, by: Actor, now: datetime) -> None:
    """Repeat on the project what its budget says (`billing.Budget` is the truth)."""
    with audit.journal(by=by, now=now) as journal:
        changed = Project.objects.filter(pk=project.pk).exclude(budget_limit=limit, budget_spent=spent)
        if changed.update(budget_limit=limit, budget_spent=spent):
            journal.add(
                "project.budget_recorded",
                project_id=project.pk,
                obj=project,
                details={"limit": limit, "spent": spent},
            )


def check_active(project: Project) -> None:
    """Raise ProjectNotActive, saying what it is instead, unless new work may start."""
    if project.status not in ACTIVE_PROJECT:
        raise ProjectNotActive(f"{project.name} is {ProjectStatus(project.status).label.lower()}.")


def _move(project: Project, to: ProjectStatus, *, by: Actor, now: datetime, **fields: Any) -> None:
    old = project.status
    with audit.journal(by=by, now=now) as journal:
        step(project, to, table=PROJECT_TRANSITIONS, **fields)
        journal.add(
            f"project.{to.value}",
            project_id=project.pk,
            obj=project,
            details={"from": old, "reason": fields.get("status_reason", "")},
            event=Event(
                PROJECT_STATUS,
                {"projectId": project.pk, "status": project.status, "progress": queries.progress(project)},
            ),
        )


main_job.register(Stage.REQUIREMENTS, ask_for_requirements)
