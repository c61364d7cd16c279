"""What the database refuses, whoever asks: one nonsense row for each constraint of projects."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, connection, transaction

from projects.ids import new_id
from projects.models import AuditLog, Project, Secret, SquadMember
from projects.sealing import Sealed
from tests.factories import (
    COMMIT,
    NOW,
    ApprovalFactory,
    AuditLogFactory,
    ClientFactory,
    ExecutionFactory,
    ExecutionNodeFactory,
    LedgerEntryFactory,
    PlanFactory,
    ProjectFactory,
    RequirementFactory,
    SquadFactory,
    SquadMemberFactory,
    TaskDependencyFactory,
    TaskFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    WorkflowFactory,
)

pytestmark = pytest.mark.django_db


def twice(factory: Any, *same: str, **fields: Any) -> None:
    """Make two rows that share the named fields."""
    first = factory(**fields)
    factory(**fields | {name: getattr(first, name) for name in same})


def audit_row(**fields: Any) -> None:
    first = AuditLogFactory()
    copy = {field.attname: getattr(first, field.attname) for field in AuditLog._meta.concrete_fields}
    AuditLog.objects.create(**copy | {"id": new_id(), "seq": first.seq + 1} | fields)


def secret(name: str) -> None:
    """A secret of the account, past the action that looks at names."""
    Secret.objects.bulk_create([Secret(name=name, value=Sealed("a token"), created_at=NOW, changed_at=NOW)])


def built(**fields: Any) -> None:
    """A project that claims to be built; the demo's own check is deferred to the end."""
    demo = ProjectFactory(status="building")
    ProjectFactory(status="planning", approved_demo_id=demo.approved_demo_id, **fields)


NONSENSE: dict[str, Callable[[], object]] = {
    "project_money_not_negative": lambda: ProjectFactory(budget_limit=-1),
    "project_build_needs_approved_demo": lambda: Project.objects.filter(pk=ProjectFactory(status="demo").pk).update(
        status="building"
    ),
    "project_approved_demo_has_commit": lambda: built(approved_demo_commit=""),
    "project_paused_knows_from_where": lambda: ProjectFactory(status="paused", paused_from=""),
    "project_complete_has_delivery": lambda: ProjectFactory(status="complete", delivered_commit=""),
    "client_name_once": lambda: [ClientFactory(name=name) for name in ("Baker", "BAKER")],
    "secret_once_per_project": lambda: [secret("API_KEY"), secret("API_KEY")],
    "secret_name_is_a_variables": lambda: secret("api key"),
    "squad_role_once": lambda: twice(SquadMemberFactory, "squad", "role"),
    "squad_member_at_least_one": lambda: SquadMemberFactory(count=0),
    "squad_member_cost_not_negative": lambda: SquadMemberFactory(max_cost=-1),
    "requirement_key_once": lambda: twice(RequirementFactory, "project", "key"),
    "requirement_position_once": lambda: [
        RequirementFactory(project=found, key=key, position=1) for found in [ProjectFactory()] for key in ("R1", "R2")
    ],
    "plan_version_once": lambda: twice(PlanFactory, "project", "version", status="rejected"),
    "plan_one_active": lambda: twice(PlanFactory, "project", status="active"),
    "plan_one_proposed": lambda: twice(PlanFactory, "project", status="proposed"),
    "plan_decided_has_time": lambda: PlanFactory(status="active", decided_at=None),
    "task_key_once": lambda: twice(TaskFactory, "project", "key"),
    "task_unmet_only_pending": lambda: TaskFactory(status="ready", unmet_count=1),
    "task_progress_percent": lambda: TaskFactory(progress=101),
    "task_completed_has_time": lambda: TaskFactory(status="completed", completed_at=None),
    "task_build_belongs_to_plan": lambda: TaskFactory(kind="build", plan=None),
    "task_conflict_has_parent": lambda: TaskFactory(kind="conflict", parent=None),
    "task_one_open_conflict": lambda: [
        TaskFactory(kind="conflict", parent=found, project=found.project) for found in [TaskFactory()] for _ in "ab"
    ],
    "task_dependency_once": lambda: twice(TaskDependencyFactory, "task", "depends_on"),
    "task_dependency_not_self": lambda: TaskDependencyFactory(task=(t := TaskFactory()), depends_on=t),
    "approval_open_once_per_subject": lambda: twice(ApprovalFactory, "subject_id", "project"),
    "approval_decided_has_time": lambda: ApprovalFactory(status="approved", decided_at=None),
    "approval_money_has_no_default": lambda: ApprovalFactory(kind="budget", default_option="approve"),
    "webhook_url_is_http": lambda: WebhookEndpointFactory(url="https://asha:pass@hooks.example.org/"),
    "webhook_disabled_says_why": lambda: WebhookEndpointFactory(status="disabled", reason=""),
    "webhook_old_secret_has_an_end": lambda: WebhookEndpointFactory(old_secret=Sealed("a token")),
    "webhook_delivery_once": lambda: twice(WebhookDeliveryFactory, "endpoint", "event_id"),
    "webhook_delivery_open_is_due": lambda: WebhookDeliveryFactory(next_attempt_at=None),
    "webhook_delivery_has_time": lambda: WebhookDeliveryFactory(status="delivered", delivered_at=None),
    "webhook_delivery_status_is_http": lambda: WebhookDeliveryFactory(response_status=600),
    "workflow_version_once": lambda: twice(WorkflowFactory, "key", "version"),
    "workflow_key_is_a_key": lambda: WorkflowFactory(key="A key"),
    "execution_key_once": lambda: twice(ExecutionFactory, "key", key="nightly"),
    "execution_ended_has_time": lambda: ExecutionFactory(status="failed", finished_at=None),
    "execution_completed_has_none_open": lambda: ExecutionFactory(status="completed", open_count=1),
    "node_position_once": lambda: twice(ExecutionNodeFactory, "execution", "position"),
    "node_running_has_lease": lambda: ExecutionNodeFactory(status="running", lease_until=None),
    "node_ended_has_time": lambda: ExecutionNodeFactory(status="skipped", finished_at=None),
    "audit_seq_once": lambda: audit_row(seq=1),
    "audit_event_has_payload": lambda: audit_row(event_type="notification"),
}


def test_every_constraint_of_projects_has_its_nonsense() -> None:
    names = {one.name for model in apps.get_app_config("projects").get_models() for one in model._meta.constraints}
    assert set(NONSENSE) == names


@pytest.mark.parametrize("name", NONSENSE)
def test_database_refuses(name: str) -> None:
    with pytest.raises(IntegrityError, match=f'"{name}"'), transaction.atomic():
        NONSENSE[name]()


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "planning", "paused_from": "planning"},
        {"status": "paused", "paused_from": "complete"},
        {"status": "complete", "completed_at": None},
    ],
)
def test_project_of_impossible_pairs_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ProjectFactory(**fields)


def test_open_decision_has_no_time() -> None:
    with pytest.raises(IntegrityError, match="approval_decided_has_time"), transaction.atomic():
        ApprovalFactory(status="pending", decided_at=NOW)


def test_decided_subject_can_be_asked_about_again() -> None:
    first = ApprovalFactory(status="approved")
    assert ApprovalFactory(project=first.project, subject_id=first.subject_id).is_open


def test_platforms_own_task_belongs_to_no_plan() -> None:
    plan = PlanFactory()
    with pytest.raises(IntegrityError, match="task_build_belongs_to_plan"), transaction.atomic():
        TaskFactory(kind="demo", project=plan.project, plan=plan)


def test_same_key_of_another_kind_or_project_is_free() -> None:
    task = TaskFactory(key="pages")
    TaskFactory(key="pages", project=task.project, kind="demo")
    TaskFactory(key="pages")


def test_project_cannot_name_a_demo_that_is_not_there() -> None:
    project = ProjectFactory()
    nowhere = {"approved_demo_id": new_id(), "approved_demo_commit": COMMIT}
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS projects_project_approved_demo_fk IMMEDIATE")
    with pytest.raises(IntegrityError, match="approved_demo_fk"), transaction.atomic():
        Project.objects.filter(pk=project.pk).update(status="paused", paused_from="planning", **nowhere)


def test_squad_belongs_to_one_project() -> None:
    project = ProjectFactory()
    with pytest.raises(IntegrityError, match="project_id"), transaction.atomic():
        SquadFactory(project=project)


def test_members_leave_with_their_squad() -> None:
    squad = ProjectFactory().squad
    squad.delete()
    assert not SquadMember.objects.exists()


APPEND_ONLY = {"projects_auditlog": AuditLogFactory, "billing_ledgerentry": LedgerEntryFactory}
CHANGES = {
    "update": "UPDATE {table} SET id = id",
    "update one": "UPDATE {table} SET id = id WHERE id = %s",
    "delete": "DELETE FROM {table}",
    "truncate": "TRUNCATE {table}",
    "truncate cascade": "TRUNCATE {table} CASCADE",
}


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", CHANGES)
def test_append_only_table_refuses(table: str, change: str) -> None:
    row = APPEND_ONLY[table]()
    sql = CHANGES[change].format(table=table)
    connection.check_constraints()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, [row.pk] if "%s" in sql else None)
    assert type(row).objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_append_only_table_refuses_the_orm_too(table: str) -> None:
    row = APPEND_ONLY[table]()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        row.delete()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        type(row).objects.filter(pk=row.pk).update(id=new_id())


def test_time_of_next_attempt_is_needed() -> None:
    with pytest.raises(IntegrityError, match="next_attempt_at"), transaction.atomic():
        TaskFactory(next_attempt_at=None, created_at=NOW + timedelta(days=1))
