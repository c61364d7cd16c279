"""The factories: every table has one, and every state can be made."""

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db import connection

from agents.states import AgentStatus, RunStatus, WorkerStatus
from demos.states import DemoStatus
from learning.states import PromptStatus
from projects import audit
from projects.models import AuditChain, AuditLog
from projects.states import ACTIVE_PROJECT, ApprovalStatus, PlanStatus, ProjectStatus, TaskKind, TaskStatus
from tests import factories

pytestmark = pytest.mark.django_db
OF_ONE_ROW = {"Pulse", "RecoverySettings"}
APPS = ("accounts", "projects", "billing", "agents", "demos", "learning")
MADE = {
    factories.ProjectFactory: ProjectStatus,
    factories.PlanFactory: PlanStatus,
    factories.TaskFactory: TaskStatus,
    factories.ApprovalFactory: ApprovalStatus,
    factories.AgentFactory: AgentStatus,
    factories.RunFactory: RunStatus,
    factories.WorkerFactory: WorkerStatus,
    factories.DemoFactory: DemoStatus,
    factories.PromptVersionFactory: PromptStatus,
}


@pytest.fixture(autouse=True)
def _check_deferred_keys() -> Iterator[None]:
    yield
    connection.check_constraints()


def factory_of(name: str) -> type:
    return getattr(factories, f"{name}Factory")


@pytest.mark.parametrize("name", [model.__name__ for app in APPS for model in apps.get_app_config(app).get_models()])
def test_every_table_has_a_factory_that_can_be_called_twice(name: str) -> None:
    first, second = factory_of(name)(), factory_of(name)()
    assert first._meta.model.objects.filter(pk__in=[first.pk, second.pk]).count() == (1 if name in OF_ONE_ROW else 2)


@pytest.mark.parametrize(
    ("factory", "status"), [(factory, status) for factory, statuses in MADE.items() for status in statuses]
)
def test_every_state_can_be_made(factory: type, status: str) -> None:
    row = factory(status=status)
    row.refresh_from_db()
    assert row.status == status


@pytest.mark.parametrize("phase", sorted(ACTIVE_PROJECT))
def test_paused_project_can_go_back_to_its_phase(phase: ProjectStatus) -> None:
    project = factories.ProjectFactory(status="paused", paused_from=phase)
    project.status, project.paused_from = phase, ""
    project.save(update_fields=["status", "paused_from"])


@pytest.mark.parametrize("kind", TaskKind)
def test_every_kind_of_task_can_be_made(kind: TaskKind) -> None:
    assert factories.TaskFactory(kind=kind).kind == kind


def test_tasks_of_one_project_share_its_plan() -> None:
    first = factories.TaskFactory(status="in_progress")
    second = factories.TaskFactory(project=first.project, depends_on=[first], status="pending")
    assert (second.plan, second.unmet_count) == (first.plan, 1)


def test_run_has_the_agent_of_its_task() -> None:
    run = factories.RunFactory(status="running")
    run.task.refresh_from_db()
    assert (run.task.status, run.task.agent_id) == (TaskStatus.IN_PROGRESS, run.agent_id)
    assert run.agent.member.role == run.task.role


def test_audit_rows_make_a_whole_chain() -> None:
    project = factories.ProjectFactory()
    for _ in range(3):
        factories.AuditLogFactory(project_id=project.pk)
    head = AuditChain.objects.get(key=str(project.pk))
    assert head.last_seq == 3
    assert audit.verify(AuditLog.objects.filter(chain=head.key).order_by("seq"), head) is None
