"""Projects, their squads, plans and tasks, and what is said and recorded about them."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import factory
from django.db import transaction
from factory.django import DjangoModelFactory
from pydantic import SecretStr

from demos.states import DemoStatus
from projects import audit
from projects.actions.projects import DEFAULT_SQUAD
from projects.actions.secrets import set_secret
from projects.ids import new_id
from projects.models import (
    Approval,
    AuditChain,
    AuditLog,
    ChatMessage,
    Client,
    Correction,
    Notification,
    Plan,
    Project,
    Requirement,
    Secret,
    Squad,
    SquadMember,
    Task,
    TaskDependency,
)
from projects.roles import Role
from projects.states import (
    AWAITING_MERGE,
    OPEN_APPROVAL,
    ApprovalKind,
    ApprovalStatus,
    PlanStatus,
    ProjectStatus,
    TaskKind,
    TaskStatus,
)
from tests.factories.common import COMMIT, MODEL, NOW, TESTER, next_number
from tests.factories.demos import DemoFactory

_BUILT = {ProjectStatus.BUILDING, ProjectStatus.COMPLETE}


class SquadFactory(DjangoModelFactory[Squad]):
    """A squad with the default members; `members={Role.PM: 1}` for others."""

    class Meta:
        model = Squad
        skip_postgeneration_save = True

    project = factory.SubFactory("tests.factories.ProjectFactory", squad=None)
    created_at = NOW

    @factory.post_generation
    def members(self: Squad, create: bool, extracted: dict[Role, int] | None, **kwargs: Any) -> None:  # type: ignore[misc]
        wanted = DEFAULT_SQUAD if extracted is None else extracted
        SquadMember.objects.bulk_create(
            SquadMember(squad=self, role=role, count=count, model=MODEL) for role, count in wanted.items()
        )


class SquadMemberFactory(DjangoModelFactory[SquadMember]):
    class Meta:
        model = SquadMember

    squad = factory.SubFactory(SquadFactory, members={})
    role = Role.DEVELOPER
    model = MODEL


class ProjectFactory(DjangoModelFactory[Project]):
    """A project with its squad. Once it is (or was) building, it has an approved demo."""

    class Meta:
        model = Project
        skip_postgeneration_save = True

    name = factory.Sequence("Tool library {}".format)
    client_name = "The neighbourhood"
    description = "We lend tools to our neighbours and want to know who has what."
    status = ProjectStatus.PLANNING
    paused_from = factory.LazyAttribute(lambda o: "planning" if o.status == ProjectStatus.PAUSED else "")
    budget_limit = Decimal(25)
    created_at = NOW
    completed_at = factory.LazyAttribute(lambda o: NOW if o.status == ProjectStatus.COMPLETE else None)
    delivered_commit = factory.LazyAttribute(lambda o: COMMIT if o.status == ProjectStatus.COMPLETE else "")
    squad = factory.RelatedFactory(SquadFactory, factory_related_name="project")

    @classmethod
    def _create(cls, model_class: type[Project], *args: Any, **kwargs: Any) -> Project:
        phases = {kwargs["status"], kwargs["paused_from"]}
        if not phases & _BUILT or kwargs.get("approved_demo_id"):
            return super()._create(model_class, *args, **kwargs)
        with transaction.atomic():  # the two point at each other; their keys are checked at the end
            project_id = kwargs.setdefault("id", new_id())
            demo = DemoFactory(project=Project(id=project_id), status=DemoStatus.APPROVED)
            kwargs |= {"approved_demo_id": demo.pk, "approved_demo_commit": demo.commit}
            return super()._create(model_class, *args, **kwargs)


class ClientFactory(DjangoModelFactory[Client]):
    """A client without projects; a project's own follows from its `client_name`."""

    class Meta:
        model = Client

    name = factory.Sequence("Client {}".format)
    created_at = NOW


class SecretFactory(DjangoModelFactory[Secret]):
    """A secret of the account; `text` is its value."""

    class Meta:
        model = Secret

    name = factory.Sequence("KEY_{}".format)
    text = "the value of a test"

    @classmethod
    def _create(cls, model_class: type[Secret], *args: Any, **kwargs: Any) -> Secret:
        value = SecretStr(kwargs.pop("text"))
        return set_secret(kwargs.get("project"), kwargs["name"], value, by=TESTER, now=NOW)


class RequirementFactory(DjangoModelFactory[Requirement]):
    class Meta:
        model = Requirement

    project = factory.SubFactory(ProjectFactory)
    position = factory.Sequence(lambda number: number + 1)
    key = factory.LazyAttribute(lambda o: f"R{o.position}")
    title = "Lend a tool"
    body = "A volunteer notes who borrows a tool."
    acceptance_criteria = ["A lent tool is shown as out."]
    created_at = NOW


class PlanFactory(DjangoModelFactory[Plan]):
    """A plan of two tasks, the second after the first."""

    class Meta:
        model = Plan

    project = factory.SubFactory(ProjectFactory)
    version = factory.LazyAttribute(lambda o: next_number(Plan.objects.filter(project=o.project), "version"))
    status = PlanStatus.PROPOSED
    summary = "First the storage, then the pages."
    content = [
        {"key": "storage", "title": "Store", "role": "developer", "depends_on": []},
        {"key": "pages", "title": "Show", "role": "developer", "depends_on": ["storage"]},
    ]
    created_at = NOW
    decided_at = factory.LazyAttribute(lambda o: None if o.status == PlanStatus.PROPOSED else NOW)


def _active_plan(task: Any) -> Plan | None:
    if task.kind != TaskKind.BUILD:
        return None
    return task.project.plans.filter(status="active").first() or PlanFactory(project=task.project, status="active")


def _waiting_task(task: Any) -> Task | None:
    if task.kind != TaskKind.CONFLICT:
        return None
    made: Task = TaskFactory(project=task.project, status=TaskStatus.BLOCKED, reason=AWAITING_MERGE)
    return made


class TaskFactory(DjangoModelFactory[Task]):
    """A build task of the active plan of a project that is being built; `depends_on=[tasks]` makes its edges."""

    class Meta:
        model = Task

    kind = TaskKind.BUILD
    project = factory.SubFactory(
        ProjectFactory,
        status=factory.LazyAttribute(lambda o: "building" if o.factory_parent.kind == TaskKind.BUILD else "planning"),
    )
    plan = factory.LazyAttribute(_active_plan)
    parent = factory.LazyAttribute(_waiting_task)
    key = factory.Sequence("task-{}".format)
    title = factory.Sequence("Task {}".format)
    role = Role.DEVELOPER
    status = TaskStatus.READY
    next_attempt_at = NOW
    created_at = NOW
    ready_at = factory.LazyAttribute(lambda o: None if o.status == TaskStatus.PENDING else NOW)
    started_at = factory.LazyAttribute(
        lambda o: NOW if o.status in {TaskStatus.IN_PROGRESS, TaskStatus.REVIEW, TaskStatus.COMPLETED} else None
    )
    completed_at = factory.LazyAttribute(lambda o: NOW if o.status == TaskStatus.COMPLETED else None)
    progress = factory.LazyAttribute(lambda o: 100 if o.status == TaskStatus.COMPLETED else 0)

    @classmethod
    def _create(cls, model_class: type[Task], *args: Any, depends_on: list[Task] | None = None, **kwargs: Any) -> Task:
        kwargs.setdefault("unmet_count", sum(task.status != TaskStatus.COMPLETED for task in depends_on or []))
        made = super()._create(model_class, *args, **kwargs)
        TaskDependency.objects.bulk_create(TaskDependency(task=made, depends_on=task) for task in depends_on or [])
        return made


class TaskDependencyFactory(DjangoModelFactory[TaskDependency]):
    """An edge whose first task is completed, so that the second may be in any state."""

    class Meta:
        model = TaskDependency

    depends_on = factory.SubFactory(TaskFactory, status=TaskStatus.COMPLETED)
    task = factory.SubFactory(TaskFactory, project=factory.SelfAttribute("..depends_on.project"))


class ApprovalFactory(DjangoModelFactory[Approval]):
    """A decision on a proposed plan; other kinds need their `subject_id` and, where there is one, their `task`."""

    class Meta:
        model = Approval

    project = factory.SubFactory(ProjectFactory)
    kind = ApprovalKind.PLAN
    subject_id = factory.LazyAttribute(lambda o: o.task.pk if o.task else PlanFactory(project=o.project).pk)
    task = None
    title = "Plan 1"
    options = [{"value": "approve", "label": "Approve"}, {"value": "amend", "label": "Ask for changes"}]
    recommended = "approve"
    deadline_at = NOW + timedelta(days=7)
    status = ApprovalStatus.PENDING
    created_at = NOW
    decided_at = factory.LazyAttribute(lambda o: None if o.status in OPEN_APPROVAL else NOW)


class CorrectionFactory(DjangoModelFactory[Correction]):
    class Meta:
        model = Correction

    approval = factory.SubFactory(ApprovalFactory, status=ApprovalStatus.AMENDED)
    project = factory.SelfAttribute("approval.project")
    text = "Smaller steps."
    created_at = NOW


class ChatMessageFactory(DjangoModelFactory[ChatMessage]):
    class Meta:
        model = ChatMessage

    project = factory.SubFactory(ProjectFactory)
    author = ChatMessage.Author.SYSTEM
    author_name = "tests"
    body = "The plan is **ready**."
    created_at = NOW


class NotificationFactory(DjangoModelFactory[Notification]):
    class Meta:
        model = Notification

    level = Notification.Level.INFO
    title = "Delivered"
    created_at = NOW


class AuditLogFactory(factory.Factory[AuditLog]):
    """A row at the end of its chain. Written by the journal: made by hand, it would not verify."""

    class Meta:
        model = AuditLog

    action = "project.noted"
    project_id: Any = None
    by = TESTER
    now = NOW

    @classmethod
    def _create(cls, model_class: type[AuditLog], *args: Any, **kwargs: Any) -> AuditLog:
        with audit.journal(by=kwargs.pop("by"), now=kwargs.pop("now")) as journal:
            journal.add(kwargs.pop("action"), **kwargs)
        return AuditLog.objects.filter(chain=str(kwargs["project_id"] or "account")).latest("seq")


class AuditChainFactory(DjangoModelFactory[AuditChain]):
    """An empty chain."""

    class Meta:
        model = AuditChain

    key = factory.LazyFunction(lambda: str(new_id()))
