"""Workers, agents and their runs."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import factory
from factory.django import DjangoModelFactory

from agents.models import (
    Agent,
    Checkpoint,
    EgressRecord,
    MergeEntry,
    Message,
    MessageCounter,
    Pulse,
    Recovery,
    RecoverySettings,
    Run,
    RunEvent,
    Specialisation,
    Verification,
    Worker,
)
from agents.roles import specialisations_of
from agents.states import ACTIVE_RUN, LEASED_RUN, AgentStatus, MessageType, RunStatus, WorkerStatus
from agents.tokens import hash_token, new_token
from projects.ids import new_id
from projects.models import (
    SquadMember,
    Task,
)
from projects.roles import Role
from projects.states import (
    TaskStatus,
)
from tests.factories.common import COMMIT, MODEL, NOW, next_number
from tests.factories.projects import ProjectFactory, TaskFactory

_TASK_OF_RUN = {
    RunStatus.QUEUED: TaskStatus.ALLOCATED,
    RunStatus.STARTING: TaskStatus.ALLOCATED,
    RunStatus.RUNNING: TaskStatus.IN_PROGRESS,
    RunStatus.EVALUATING: TaskStatus.REVIEW,
    RunStatus.MERGING: TaskStatus.REVIEW,
    RunStatus.SUCCEEDED: TaskStatus.COMPLETED,
    RunStatus.CANCELLED: TaskStatus.CANCELLED,
}


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
    attempt = factory.LazyAttribute(lambda o: next_number(Run.objects.filter(task=o.task), "attempt"))
    runtime = "local"
    model = MODEL
    specialisations = factory.LazyAttribute(lambda o: specialisations_of(o.agent, o.task) if o.agent else [])
    token_hash = factory.LazyAttribute(lambda o: hash_token(new_token()) if o.is_active else "")
    lease_owner = factory.LazyAttribute(lambda o: "worker-1" if o.is_leased else "")
    lease_until = factory.LazyAttribute(lambda o: NOW + timedelta(seconds=20) if o.is_leased else None)
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
    seq = factory.LazyAttribute(lambda o: next_number(RunEvent.objects.filter(run=o.run), "seq"))
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
    seq = factory.LazyAttribute(lambda o: next_number(Message.objects.filter(project=o.project), "seq"))
    message_type = MessageType.TASK_PROGRESS
    payload = {"body": "Half done."}
    idempotency_key = factory.LazyFunction(lambda: str(new_id()))
    created_at = NOW

    @classmethod
    def _create(cls, model_class: type[Message], *args: Any, **kwargs: Any) -> Message:
        message = super()._create(model_class, *args, **kwargs)
        MessageCounter.objects.update_or_create(project=message.project, defaults={"last_seq": message.seq})
        return message


class MessageCounterFactory(DjangoModelFactory[MessageCounter]):
    class Meta:
        model = MessageCounter

    project = factory.SubFactory(ProjectFactory)


class CheckpointFactory(DjangoModelFactory[Checkpoint]):
    class Meta:
        model = Checkpoint

    run = factory.SubFactory(RunFactory, status=RunStatus.RUNNING)
    agent = factory.SelfAttribute("run.agent")
    seq = factory.LazyAttribute(lambda o: next_number(Checkpoint.objects.filter(run=o.run), "seq"))
    file_snapshot = factory.LazyAttribute(lambda o: f"refs/eklavya/checkpoints/{o.run.pk}/{o.seq}")
    created_at = NOW


class MergeEntryFactory(DjangoModelFactory[MergeEntry]):
    class Meta:
        model = MergeEntry

    run = factory.SubFactory(RunFactory, status="evaluating")
    project = factory.SelfAttribute("run.project")
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


class RecoverySettingsFactory(DjangoModelFactory[RecoverySettings]):
    class Meta:
        model = RecoverySettings
        django_get_or_create = ("id",)

    id = 1


class PulseFactory(DjangoModelFactory[Pulse]):
    """Of a house in which whoever did not renew is dead."""

    class Meta:
        model = Pulse
        django_get_or_create = ("id",)

    id = 1
    seen_at = NOW
    since = factory.LazyAttribute(lambda o: o.seen_at - timedelta(hours=1))


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
