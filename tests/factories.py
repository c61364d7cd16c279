"""Rows for tests, made directly in a legal state: what belongs to a status (times, leases, plans, demos) comes with it.

    ProjectFactory(status="building")             with an approved demo, as the database demands
    TaskFactory(status="pending", depends_on=[a])  with its edges and its count of unmet dependencies
    RunFactory(status="running")                  with task and agent in the states that go with it, and a lease

Times are fixed (`NOW`); a test of waiting passes its own. Whoever wants a life and not a state calls the actions.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import factory
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max
from factory.django import DjangoModelFactory
from pydantic import SecretStr

from agents.models import (
    Agent,
    Checkpoint,
    EgressRecord,
    Message,
    MessageCounter,
    Recovery,
    Run,
    RunEvent,
    Specialisation,
    Verification,
    Worker,
)
from agents.roles import specialisations_of
from agents.states import ACTIVE_RUN, LEASED_RUN, AgentStatus, MessageType, RunStatus, WorkerStatus
from agents.tokens import hash_token, new_token
from billing.models import Budget, LedgerEntry, Price, Reservation
from demos.models import Demo, DemoFeedback
from demos.states import DemoStatus
from learning.models import Outcome, PromptVersion
from learning.states import PromptStatus
from projects import audit, sealing
from projects.actions.projects import DEFAULT_SQUAD
from projects.actions.secrets import set_secret
from projects.actors import Actor
from projects.ids import new_id
from projects.models import (
    Approval,
    AuditChain,
    AuditLog,
    ChatMessage,
    Client,
    Correction,
    Execution,
    ExecutionLog,
    ExecutionNode,
    Notification,
    Plan,
    Project,
    Requirement,
    Runner,
    Secret,
    Squad,
    SquadMember,
    Task,
    TaskDependency,
    WebhookCursor,
    WebhookDelivery,
    WebhookEndpoint,
    Workflow,
)
from projects.roles import Role
from projects.states import (
    OPEN_APPROVAL,
    OPEN_DELIVERY,
    OPEN_EXECUTION,
    OPEN_NODE,
    ApprovalKind,
    ApprovalStatus,
    DeliveryStatus,
    ExecutionStatus,
    NodeStatus,
    PlanStatus,
    ProjectStatus,
    TaskKind,
    TaskStatus,
    WebhookStatus,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TESTER = Actor.system("tests")
COMMIT = "c0ffee" + "0" * 34
MODEL = "claude-sonnet-4-5"
PASSWORD = "a long enough password"
WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4

_BUILT = {ProjectStatus.BUILDING, ProjectStatus.COMPLETE}
_TASK_OF_RUN = {
    RunStatus.QUEUED: TaskStatus.ALLOCATED,
    RunStatus.STARTING: TaskStatus.ALLOCATED,
    RunStatus.RUNNING: TaskStatus.IN_PROGRESS,
    RunStatus.EVALUATING: TaskStatus.REVIEW,
    RunStatus.MERGING: TaskStatus.REVIEW,
    RunStatus.SUCCEEDED: TaskStatus.COMPLETED,
    RunStatus.CANCELLED: TaskStatus.CANCELLED,
}


@cache
def _hashed(password: str) -> str:
    """Hashing is slow by design: once is enough."""
    return make_password(password)


class UserFactory(DjangoModelFactory[User]):
    """A person who signs in with PASSWORD; `is_superuser=True` for Django's admin."""

    class Meta:
        model = get_user_model()
        skip_postgeneration_save = True

    username = factory.Sequence("person{}".format)
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.com")
    is_staff = factory.SelfAttribute("is_superuser")
    is_superuser = False
    password = factory.LazyFunction(lambda: _hashed(PASSWORD))


# -- projects


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
    version = factory.LazyAttribute(lambda o: _next(Plan.objects.filter(project=o.project), "version"))
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


class WorkflowFactory(DjangoModelFactory[Workflow]):
    """A workflow of one node that does nothing."""

    class Meta:
        model = Workflow

    key = factory.Sequence("workflow-{}".format)
    version = 1
    name = factory.Sequence("Workflow {}".format)
    definition = factory.LazyFunction(lambda: {"nodes": [{"key": "only", "function": "noop"}], "edges": []})
    created_by = "tests"
    created_at = NOW


class ExecutionFactory(DjangoModelFactory[Execution]):
    """An execution without its nodes: whoever wants those starts one."""

    class Meta:
        model = Execution

    workflow = factory.SubFactory(WorkflowFactory)
    status = ExecutionStatus.RUNNING
    open_count = factory.LazyAttribute(lambda o: int(o.status in OPEN_EXECUTION))
    started_by = "tests"
    created_at = NOW
    finished_at = factory.LazyAttribute(lambda o: None if o.status in OPEN_EXECUTION else NOW)


class RunnerFactory(DjangoModelFactory[Runner]):
    class Meta:
        model = Runner

    name = factory.Sequence("host:{}".format)
    started_at = NOW


class ExecutionNodeFactory(DjangoModelFactory[ExecutionNode]):
    class Meta:
        model = ExecutionNode

    execution = factory.SubFactory(ExecutionFactory)
    position = factory.Sequence(int)
    key = "only"
    kind = "function"
    status = NodeStatus.READY
    unmet_count = 0
    open_edges = 0
    timeout_s = 60
    runner = factory.LazyAttribute(lambda o: 1 if o.status == NodeStatus.RUNNING else None)
    lease_until = factory.LazyAttribute(lambda o: NOW if o.status == NodeStatus.RUNNING else None)
    not_before = NOW
    rank_at = NOW
    finished_at = factory.LazyAttribute(lambda o: None if o.status in OPEN_NODE else NOW)


class ExecutionLogFactory(DjangoModelFactory[ExecutionLog]):
    class Meta:
        model = ExecutionLog

    execution_id = factory.LazyFunction(new_id)
    position = 0
    event = "completed"
    at = NOW


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


# -- billing


class PriceFactory(DjangoModelFactory[Price]):
    class Meta:
        model = Price

    model = factory.Sequence("claude-test-{}".format)
    valid_from = date(2025, 1, 1)
    input_per_mtok = Decimal(3)
    output_per_mtok = Decimal(15)
    cache_write_per_mtok = Decimal("3.75")
    long_cache_write_per_mtok = Decimal(6)
    cache_read_per_mtok = Decimal("0.30")


class BudgetFactory(DjangoModelFactory[Budget]):
    """A project's budget."""

    class Meta:
        model = Budget

    scope = Budget.Scope.PROJECT
    project = factory.SubFactory(ProjectFactory)
    scope_id = factory.SelfAttribute("project.pk")
    limit = Decimal(25)
    created_at = NOW


class ReservationFactory(DjangoModelFactory[Reservation]):
    class Meta:
        model = Reservation

    project = factory.SubFactory(ProjectFactory)
    run_id = factory.LazyFunction(new_id)
    agent_id = factory.LazyFunction(new_id)
    price = factory.SubFactory(PriceFactory)
    model = factory.SelfAttribute("price.model")
    amount = Decimal("0.5")
    budget_ids = factory.LazyFunction(list)
    created_at = NOW
    expires_at = NOW + timedelta(minutes=20)


class LedgerEntryFactory(DjangoModelFactory[LedgerEntry]):
    """A settlement; its price is the reservation's."""

    class Meta:
        model = LedgerEntry

    kind = LedgerEntry.Kind.SETTLE
    project_id = factory.LazyFunction(new_id)
    run_id = factory.LazyFunction(new_id)
    agent_id = factory.LazyFunction(new_id)
    request_id = factory.LazyFunction(new_id)
    amount = Decimal("0.0123")
    currency = "USD"
    price = factory.SubFactory(PriceFactory)
    model = factory.SelfAttribute("price.model")
    input_tokens = 1_000
    output_tokens = 200
    created_at = NOW


class WebhookEndpointFactory(DjangoModelFactory[WebhookEndpoint]):
    """An endpoint for all events, signing with WEBHOOK_SECRET."""

    class Meta:
        model = WebhookEndpoint

    id = factory.LazyFunction(new_id)
    url = factory.Sequence("https://hooks{}.example.org/eklavya".format)
    status = WebhookStatus.ACTIVE
    reason = factory.LazyAttribute(lambda o: "" if o.status == WebhookStatus.ACTIVE else "Disabled by asha.")
    active_since = factory.LazyAttribute(lambda o: NOW if o.status == WebhookStatus.ACTIVE else None)
    secret = factory.LazyAttribute(lambda o: sealing.seal(SecretStr(WEBHOOK_SECRET), whose=f"webhook:{o.id}"))
    created_at = NOW


class WebhookDeliveryFactory(DjangoModelFactory[WebhookDelivery]):
    """A test event that waits to be sent."""

    class Meta:
        model = WebhookDelivery

    endpoint = factory.SubFactory(WebhookEndpointFactory)
    event_id = factory.LazyFunction(new_id)
    event_seq = 0
    event_type = "webhook:test"
    status = DeliveryStatus.PENDING
    next_attempt_at = factory.LazyAttribute(lambda o: NOW if o.status in OPEN_DELIVERY else None)
    give_up_at = NOW + timedelta(hours=24)
    created_at = NOW
    delivered_at = factory.LazyAttribute(lambda o: NOW if o.status == DeliveryStatus.DELIVERED else None)


class WebhookCursorFactory(DjangoModelFactory[WebhookCursor]):
    class Meta:
        model = WebhookCursor

    chain = factory.LazyFunction(lambda: str(new_id()))
    seq = 3


# -- agents


class WorkerFactory(DjangoModelFactory[Worker]):
    class Meta:
        model = Worker

    name = factory.Sequence("worker-{}".format)
    queue = factory.LazyAttribute(lambda o: f"runs.{o.name}")
    status = WorkerStatus.ONLINE
    capacity = 4
    runtime = "local"
    cordoned_at = factory.LazyAttribute(lambda o: NOW if o.status == WorkerStatus.DRAINING else None)
    registered_at = NOW
    heartbeat_at = NOW


class SpecialisationFactory(DjangoModelFactory[Specialisation]):
    class Meta:
        model = Specialisation

    key = factory.Sequence("special_{}".format)
    name = factory.Sequence("Special {}".format)
    base_role = Role.DEVELOPER
    narrowing = factory.Dict({"minutes": 10})
    created_at = NOW


class AgentFactory(DjangoModelFactory[Agent]):
    """A member of its project's squad, free."""

    class Meta:
        model = Agent

    project = factory.SubFactory(ProjectFactory)
    agent_type = Role.DEVELOPER
    member = factory.LazyAttribute(
        lambda o: SquadMember.objects.filter(squad__project=o.project, role=o.agent_type).first()
    )
    name = factory.Sequence(lambda number: f"agent-{number}")
    status = AgentStatus.READY
    created_at = NOW


class RunFactory(DjangoModelFactory[Run]):
    """A run, queued; with task and agent as they are during a run of its status, and a lease where it needs one."""

    class Meta:
        model = Run
        exclude = ("is_active", "is_leased")

    status = RunStatus.QUEUED
    is_active = factory.LazyAttribute(lambda o: o.status in ACTIVE_RUN)
    is_leased = factory.LazyAttribute(lambda o: o.status in LEASED_RUN)
    task = factory.SubFactory(
        TaskFactory,
        status=factory.LazyAttribute(lambda o: _TASK_OF_RUN.get(RunStatus(o.factory_parent.status), TaskStatus.READY)),
    )
    project = factory.SelfAttribute("task.project")
    agent = factory.SubFactory(
        AgentFactory,
        project=factory.SelfAttribute("..task.project"),
        agent_type=factory.SelfAttribute("..task.role"),
        status=factory.LazyAttribute(
            lambda o: AgentStatus.WORKING if o.factory_parent.is_active else AgentStatus.READY
        ),
    )
    attempt = factory.LazyAttribute(lambda o: _next(Run.objects.filter(task=o.task), "attempt"))
    runtime = "local"
    model = MODEL
    specialisations = factory.LazyAttribute(lambda o: specialisations_of(o.agent, o.task) if o.agent else [])
    token_hash = factory.LazyAttribute(lambda o: hash_token(new_token()) if o.is_active else "")
    lease_owner = factory.LazyAttribute(lambda o: "worker-1" if o.is_leased else "")
    lease_until = factory.LazyAttribute(lambda o: NOW + timedelta(seconds=30) if o.is_leased else None)
    created_at = NOW
    started_at = factory.LazyAttribute(lambda o: None if o.status == RunStatus.QUEUED else NOW)
    finished_at = factory.LazyAttribute(lambda o: None if o.is_active else NOW)

    @classmethod
    def _create(cls, model_class: type[Run], *args: Any, **kwargs: Any) -> Run:
        run = super()._create(model_class, *args, **kwargs)
        if run.status in ACTIVE_RUN:
            Task.objects.filter(pk=run.task.pk).update(agent_id=run.agent.pk)
            run.task.agent_id = run.agent.pk
        return run


class RunEventFactory(DjangoModelFactory[RunEvent]):
    class Meta:
        model = RunEvent

    run = factory.SubFactory(RunFactory, status=RunStatus.RUNNING)
    seq = factory.LazyAttribute(lambda o: _next(RunEvent.objects.filter(run=o.run), "seq"))
    kind = RunEvent.Kind.TEXT
    payload = {"text": "I read the task."}
    created_at = NOW


class EgressRecordFactory(DjangoModelFactory[EgressRecord]):
    """A host that the run reached; with `decision="refused"` one that it did not."""

    class Meta:
        model = EgressRecord

    run = factory.SubFactory(RunFactory, status=RunStatus.RUNNING)
    host = factory.Sequence("host{}.test".format)
    port = 443
    decision = EgressRecord.Decision.ALLOWED
    reason = factory.LazyAttribute(lambda o: "" if o.decision == EgressRecord.Decision.ALLOWED else "not_listed")
    requests = 1
    first_at = NOW
    last_at = NOW


class MessageFactory(DjangoModelFactory[Message]):
    """A broadcast; `to_agent` or `to_role` for one reader."""

    class Meta:
        model = Message

    project = factory.SubFactory(ProjectFactory)
    seq = factory.LazyAttribute(lambda o: _next(Message.objects.filter(project=o.project), "seq"))
    message_type = MessageType.TASK_PROGRESS
    payload = {"body": "Half done."}
    idempotency_key = factory.LazyFunction(lambda: str(new_id()))
    created_at = NOW

    @classmethod
    def _create(cls, model_class: type[Message], *args: Any, **kwargs: Any) -> Message:
        message = super()._create(model_class, *args, **kwargs)
        MessageCounter.objects.update_or_create(project=message.project, defaults={"last_seq": message.seq})
        return message


class CheckpointFactory(DjangoModelFactory[Checkpoint]):
    class Meta:
        model = Checkpoint

    run = factory.SubFactory(RunFactory, status=RunStatus.RUNNING)
    agent = factory.SelfAttribute("run.agent")
    seq = factory.LazyAttribute(lambda o: _next(Checkpoint.objects.filter(run=o.run), "seq"))
    file_snapshot = factory.LazyAttribute(lambda o: f"refs/eklavya/checkpoints/{o.run.pk}/{o.seq}")
    created_at = NOW


class RecoveryFactory(DjangoModelFactory[Recovery]):
    class Meta:
        model = Recovery

    run = factory.SubFactory(RunFactory, status="failed")
    task = factory.SelfAttribute("run.task")
    project = factory.SelfAttribute("run.project")
    reason = "stalled"
    fingerprint = factory.Sequence("{:064x}".format)
    decision = Recovery.Decision.RETRY
    created_at = NOW


class VerificationFactory(DjangoModelFactory[Verification]):
    class Meta:
        model = Verification

    project = factory.SubFactory(ProjectFactory)
    purpose = Verification.Purpose.DELIVERY
    commit = COMMIT
    tree = COMMIT[::-1]
    passed = True
    reason = "passed"
    tests_run = 3
    duration_s = Decimal("1.5")
    created_at = NOW


# -- demos and learning


class DemoFactory(DjangoModelFactory[Demo]):
    class Meta:
        model = Demo

    project = factory.SubFactory(ProjectFactory, status=ProjectStatus.DEMO)
    demo_number = factory.LazyAttribute(lambda o: _next(Demo.objects.filter(project=o.project), "demo_number"))
    status = DemoStatus.READY
    commit = COMMIT
    summary = "Lend a drill on the first page."
    token = factory.LazyFunction(lambda: new_id().hex)
    preview_url = factory.LazyAttribute(lambda o: f"http://{o.token}.preview.localhost:8000/")
    created_at = NOW
    ready_at = factory.LazyAttribute(lambda o: None if o.status == DemoStatus.BUILDING else NOW)
    approved_at = factory.LazyAttribute(lambda o: NOW if o.status == DemoStatus.APPROVED else None)
    decided_at = factory.LazyAttribute(
        lambda o: None if o.status in {DemoStatus.BUILDING, DemoStatus.READY, DemoStatus.EXPIRED} else NOW
    )
    expires_at = NOW + timedelta(days=7)


class DemoFeedbackFactory(DjangoModelFactory[DemoFeedback]):
    class Meta:
        model = DemoFeedback

    demo = factory.SubFactory(DemoFactory)
    body = "The list should show what is overdue."
    created_at = NOW


class PromptVersionFactory(DjangoModelFactory[PromptVersion]):
    class Meta:
        model = PromptVersion

    agent_type = Role.DEVELOPER
    version = factory.LazyAttribute(lambda o: _next(PromptVersion.objects.filter(agent_type=o.agent_type), "version"))
    prompt_text = "You build one piece of a client's product."
    status = PromptStatus.DRAFT
    created_at = NOW


class OutcomeFactory(DjangoModelFactory[Outcome]):
    class Meta:
        model = Outcome

    prompt_version = factory.SubFactory(PromptVersionFactory)
    run_id = factory.LazyFunction(new_id)
    project_id = factory.LazyFunction(new_id)
    succeeded = True
    cost = Decimal("0.25")
    duration_s = Decimal("61.5")
    turns = 7
    created_at = NOW


def _next(rows: Any, field: str) -> int:
    return (rows.aggregate(newest=Max(field))["newest"] or 0) + 1
