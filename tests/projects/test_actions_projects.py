"""The life of a project."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction

from projects.actions import main_job, projects
from projects.actors import Actor
from projects.errors import DomainError, IllegalTransition, InvalidBrief, ProjectNotActive, StaleState
from projects.models import Approval, AuditLog, ChatMessage, Notification, Project, Task
from projects.roles import Role
from projects.states import ACTIVE_PROJECT, PROJECT_TRANSITIONS, ApprovalStatus, ProjectStatus, Stage, TaskStatus
from tests.factories import COMMIT, NOW, TESTER, DemoFactory, ProjectFactory, TaskFactory, UserFactory
from tests.projects import lives

pytestmark = pytest.mark.django_db


def create(brief: str = "We lend tools to our neighbours.", **fields: object) -> Project:
    return projects.create_project(projects.NewProject(brief, **fields), by=TESTER, now=NOW)  # type: ignore[arg-type]


def can_become(to: ProjectStatus) -> list[ProjectStatus]:
    return [status for status in ProjectStatus if to in PROJECT_TRANSITIONS[status]]


def cannot_become(to: ProjectStatus) -> list[ProjectStatus]:
    return [status for status in ProjectStatus if to not in PROJECT_TRANSITIONS[status]]


def test_new_project_is_planned_by_its_product_manager() -> None:
    project = create(client_name="The neighbourhood")
    task = project.tasks.get()
    assert (project.status, project.client_name) == (ProjectStatus.PLANNING, "The neighbourhood")
    assert (task.kind, task.role, task.status) == ("requirements", Role.PM, TaskStatus.READY)


def test_new_project_has_a_squad_of_every_role() -> None:
    members = {member.role: member.count for member in create().squad.members.all()}
    assert members == dict.fromkeys(Role, 1) | {Role.DEVELOPER: 2}


def test_new_project_begins_its_chat_with_the_brief() -> None:
    user = UserFactory()
    project = projects.create_project(projects.NewProject("We lend tools."), by=Actor.person(user), now=NOW)
    line = project.chat.get()
    assert (line.body, line.user, project.created_by) == ("We lend tools.", user, user)


def test_new_project_is_told_with_seed_payload() -> None:
    project = create(name="Lendery", client_name="We")
    row = AuditLog.objects.get(event_type="project:created")
    assert row.event_payload == {"projectId": str(project.pk), "name": "Lendery", "clientName": "We"}


def test_new_project_without_name_is_named_after_its_brief() -> None:
    assert create("We lend tools.\nMore here.").name == "We lend tools."


def test_new_project_takes_the_default_limit(settings: object) -> None:
    settings.EKLAVYA_BUDGET_LIMIT = Decimal(7)  # type: ignore[attr-defined]
    assert create().budget_limit == 7
    assert create(budget_limit=Decimal(0)).budget_limit == 0


@pytest.mark.parametrize("limit", ["-0.01", "NaN", "Infinity", "10000000.01"])
def test_impossible_limit_is_refused(limit: str) -> None:
    with pytest.raises(DomainError, match="budget must be between"):
        create(budget_limit=Decimal(limit))
    assert not Project.objects.exists()


def test_unusable_brief_is_refused() -> None:
    with pytest.raises(InvalidBrief):
        create("   ")
    assert not Project.objects.exists()
    assert list(AuditLog.objects.values_list("action", "details__characters")) == [("brief.refused", 3)]


def approve_plan(project: Project) -> bool:
    return main_job.reached(project, Stage.PLAN_APPROVAL, {"decision": "approve"}, by=TESTER, now=NOW)


def test_approved_plan_asks_a_developer_for_the_first_demo() -> None:
    project = ProjectFactory()
    approve_plan(project)
    task = project.tasks.get()
    assert (project.status, task.kind, task.key, task.role) == ("demo", "demo", "demo-1", Role.DEVELOPER)


def test_next_demo_is_told_the_feedback() -> None:
    project = ProjectFactory(status="demo")
    projects.ask_for_demo(project, feedback=[], by=TESTER, now=NOW)
    projects.ask_for_demo(project, feedback=[{"demo": 1, "text": "Bigger."}], by=TESTER, now=NOW)
    newest = project.tasks.latest("id")
    assert (newest.key, newest.context) == ("demo-2", {"feedback": [{"demo": 1, "text": "Bigger."}]})


def test_begin_building_names_the_approved_demo() -> None:
    project = ProjectFactory(status="demo")
    demo = DemoFactory(project=project, status="approved")
    projects.begin_building(project, demo_id=demo.pk, commit=COMMIT, by=TESTER, now=NOW)
    project.refresh_from_db()
    assert (project.status, project.approved_demo_id) == (ProjectStatus.BUILDING, demo.pk)


@pytest.mark.parametrize("status", ["ready", "changes_requested", "rejected"])
def test_begin_building_on_a_demo_that_is_not_approved_is_refused_by_the_database(status: str) -> None:
    project = ProjectFactory(status="demo")
    demo = DemoFactory(project=project, status=status)
    with pytest.raises(DatabaseError, match="not approved"), transaction.atomic():
        projects.begin_building(project, demo_id=demo.pk, commit=COMMIT, by=TESTER, now=NOW)
    project.refresh_from_db()
    assert project.status == ProjectStatus.DEMO


def test_begin_building_on_the_demo_of_another_project_is_refused_by_the_database() -> None:
    project, other = ProjectFactory(status="demo"), ProjectFactory(status="building")
    with pytest.raises(DatabaseError, match="not approved"), transaction.atomic():
        projects.begin_building(project, demo_id=other.approved_demo_id, commit=COMMIT, by=TESTER, now=NOW)


def test_paused_project_does_not_go_on_to_demos() -> None:
    project = ProjectFactory(status="paused", paused_from="planning")
    with pytest.raises(ProjectNotActive, match="is paused"):
        projects.begin_demos(project, by=TESTER, now=NOW)


def test_paused_project_does_not_go_on_to_building() -> None:
    project = ProjectFactory(status="paused", paused_from="demo")
    demo = DemoFactory(project=project, status="approved")
    with pytest.raises(ProjectNotActive, match="is paused"):
        projects.begin_building(project, demo_id=demo.pk, commit=COMMIT, by=TESTER, now=NOW)


@pytest.mark.parametrize("phase", sorted(ACTIVE_PROJECT))
def test_paused_project_goes_back_where_it_was(phase: str) -> None:
    project = ProjectFactory(status=phase)
    projects.pause_project(project, reason="Holidays.", by=TESTER, now=NOW)
    project.refresh_from_db()
    assert (project.status, project.paused_from, project.status_reason) == ("paused", phase, "Holidays.")
    projects.resume_project(project, by=TESTER, now=NOW)
    project.refresh_from_db()
    assert (project.status, project.paused_from, project.status_reason) == (phase, "", "")


def test_resume_looks_where_the_project_was_paused_last() -> None:
    stale = ProjectFactory(status="paused", paused_from="planning")
    fresh = Project.objects.get(pk=stale.pk)
    projects.resume_project(fresh, by=TESTER, now=NOW)
    projects.begin_demos(fresh, by=TESTER, now=NOW)
    projects.pause_project(fresh, reason="", by=TESTER, now=NOW)
    projects.resume_project(stale, by=TESTER, now=NOW)
    assert stale.status == ProjectStatus.DEMO


@pytest.mark.parametrize("status", sorted(set(ProjectStatus) - {"paused"}))
def test_project_that_is_not_paused_is_not_resumed(status: str) -> None:
    with pytest.raises(ProjectNotActive, match="not paused"):
        projects.resume_project(ProjectFactory(status=status), by=TESTER, now=NOW)


@pytest.mark.parametrize("status", cannot_become(ProjectStatus.PAUSED))
def test_project_that_is_not_active_is_not_paused(status: str) -> None:
    project = ProjectFactory(status=status)
    with pytest.raises(IllegalTransition):
        projects.pause_project(project, reason="", by=TESTER, now=NOW)


def test_pausing_what_somebody_just_cancelled_is_stale() -> None:
    project = ProjectFactory()
    projects.cancel_project(Project.objects.get(pk=project.pk), reason="", by=TESTER, now=NOW)
    with pytest.raises(StaleState):
        projects.pause_project(project, reason="", by=TESTER, now=NOW)
    assert AuditLog.objects.filter(action="project.paused").count() == 0


@pytest.mark.parametrize("verb", [projects.pause_project, projects.cancel_project])
def test_reason_is_cut_to_what_fits(verb: object) -> None:
    project = ProjectFactory()
    verb(project, reason="\x00" + "long " * 200, by=TESTER, now=NOW)  # type: ignore[operator]
    project.refresh_from_db()
    assert len(project.status_reason) == 500


@pytest.mark.parametrize("status", can_become(ProjectStatus.CANCELLED))
def test_cancelled_project_has_nothing_open(status: str) -> None:
    project = ProjectFactory(status=status)
    for of in ("ready", "in_progress", "blocked", "failed", "completed"):
        TaskFactory(project=project, status=of)
    projects.cancel_project(project, reason="The client left.", by=TESTER, now=NOW)
    assert set(project.tasks.values_list("status", flat=True)) == {"completed", "cancelled"}
    assert project.tasks.filter(status="cancelled", reason="project_cancelled").count() == 4


def test_cancelled_project_asks_nobody_any_more() -> None:
    approval = lives.planned()
    projects.cancel_project(approval.project, reason="", by=TESTER, now=NOW)
    approval.refresh_from_db()
    assert (approval.status, approval.decided_at) == ("expired", NOW)
    lives.check_invariants(approval.project)


@pytest.mark.parametrize("status", cannot_become(ProjectStatus.CANCELLED))
def test_project_that_is_over_is_not_cancelled(status: str) -> None:
    with pytest.raises(IllegalTransition):
        projects.cancel_project(ProjectFactory(status=status), reason="", by=TESTER, now=NOW)


@pytest.mark.parametrize("status", can_become(ProjectStatus.ARCHIVED))
def test_archived_project_has_nothing_open(status: str) -> None:
    project = ProjectFactory(status=status)
    task = TaskFactory(project=project, status="ready")
    projects.archive_project(project, by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (project.status, task.status) == ("archived", "cancelled")


def test_archived_while_paused_project_asks_nobody_any_more() -> None:
    approval = lives.planned()
    projects.pause_project(approval.project, reason="", by=TESTER, now=NOW)
    projects.archive_project(approval.project, by=TESTER, now=NOW)
    assert Approval.objects.get(pk=approval.pk).status == "expired"
    lives.check_invariants(approval.project)


@pytest.mark.parametrize("status", cannot_become(ProjectStatus.ARCHIVED))
def test_active_project_is_not_archived(status: str) -> None:
    with pytest.raises(IllegalTransition):
        projects.archive_project(ProjectFactory(status=status), by=TESTER, now=NOW)


def test_complete_project_is_delivered_and_told() -> None:
    task = TaskFactory(status="completed")
    projects.complete_project(task.project, commit=COMMIT, by=TESTER, now=NOW + timedelta(hours=1))
    project = Project.objects.get(pk=task.project.pk)
    assert (project.status, project.delivered_commit) == (ProjectStatus.COMPLETE, COMMIT)
    assert project.completed_at == NOW + timedelta(hours=1)
    assert Notification.objects.get().title == f"{project.name} is delivered"
    assert COMMIT[:12] in ChatMessage.objects.get().body


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - {"completed", "pending"}))
def test_project_with_unfinished_tasks_is_not_complete(status: str) -> None:
    task = TaskFactory(status=status)
    TaskFactory(project=task.project, status="completed")
    with pytest.raises(ProjectNotActive, match="1 tasks are not completed"):
        projects.complete_project(task.project, commit=COMMIT, by=TESTER, now=NOW)
    assert Project.objects.get(pk=task.project.pk).status == ProjectStatus.BUILDING


@pytest.mark.parametrize("status", cannot_become(ProjectStatus.COMPLETE))
def test_project_is_only_delivered_from_building(status: str) -> None:
    with pytest.raises(IllegalTransition):
        projects.complete_project(ProjectFactory(status=status), commit=COMMIT, by=TESTER, now=NOW)


def test_budget_is_recorded_once() -> None:
    project = ProjectFactory()
    for _ in range(2):
        projects.record_budget(project, limit=Decimal(30), spent=Decimal("1.5"), by=TESTER, now=NOW)
    project.refresh_from_db()
    assert (project.budget_limit, project.budget_spent) == (30, Decimal("1.5"))
    row = AuditLog.objects.get(action="project.budget_recorded")
    assert row.details == {"limit": "30", "spent": "1.5"}


@pytest.mark.parametrize("status", ProjectStatus)
def test_check_active_says_what_the_project_is_instead(status: ProjectStatus) -> None:
    project = ProjectFactory(status=status, name="Lendery")
    if status in ACTIVE_PROJECT:
        projects.check_active(project)
        return
    with pytest.raises(ProjectNotActive, match=f"Lendery is {status.label.lower()}"):
        projects.check_active(project)


def test_status_event_has_seed_payload() -> None:
    project = ProjectFactory(status="building")
    projects.pause_project(project, reason="", by=TESTER, now=NOW)
    row = AuditLog.objects.get(event_type="project:status")
    assert row.event_payload == {"projectId": str(project.pk), "status": "paused", "progress": 40}
    assert row.details == {"from": "building", "reason": ""}


def test_no_task_is_made_twice_by_two_phases() -> None:
    project = ProjectFactory()
    assert approve_plan(project)
    with pytest.raises(IllegalTransition):
        projects.begin_demos(project, by=TESTER, now=NOW)
    assert not approve_plan(project)
    assert Task.objects.filter(project=project).count() == 1


def test_cancelled_project_asks_nothing_though_no_task_is_open() -> None:
    approval = lives.planned()
    project = Project.objects.get(pk=approval.project_id)
    project.tasks.update(status="cancelled")
    projects.cancel_project(project, reason="Too dear.", by=TESTER, now=NOW)
    approval.refresh_from_db()
    assert approval.status == ApprovalStatus.EXPIRED
