"""Rows for tests, made directly in a legal state: what belongs to a status (times, leases, plans, demos) comes with it.

    ProjectFactory(status="building")             with an approved demo, as the database demands
    TaskFactory(status="pending", depends_on=[a])  with its edges and its count of unmet dependencies
    RunFactory(status="running")                  with task and agent in the states that go with it, and a lease

Times are fixed (`NOW`); a test of waiting passes its own. Whoever wants a life and not a state calls the actions.
"""

from tests.factories.accounts import ApiKeyFactory, MemberFactory
from tests.factories.agents import (
    AgentFactory,
    CheckpointFactory,
    EgressRecordFactory,
    MergeEntryFactory,
    MessageCounterFactory,
    MessageFactory,
    PulseFactory,
    RecoveryFactory,
    RecoverySettingsFactory,
    RunEventFactory,
    RunFactory,
    SpecialisationFactory,
    VerificationFactory,
    WorkerFactory,
)
from tests.factories.billing import BudgetFactory, LedgerEntryFactory, PriceFactory, ReservationFactory
from tests.factories.common import COMMIT, MODEL, NOW, PASSWORD, TESTER, WEBHOOK_SECRET, UserFactory
from tests.factories.demos import DemoFactory, DemoFeedbackFactory, OutcomeFactory, PromptVersionFactory
from tests.factories.projects import (
    ApprovalFactory,
    AuditChainFactory,
    AuditLogFactory,
    ChatMessageFactory,
    ClientFactory,
    CorrectionFactory,
    NotificationFactory,
    PlanFactory,
    ProjectFactory,
    RequirementFactory,
    SecretFactory,
    SquadFactory,
    SquadMemberFactory,
    TaskDependencyFactory,
    TaskFactory,
)
from tests.factories.webhooks import WebhookCursorFactory, WebhookDeliveryFactory, WebhookEndpointFactory
from tests.factories.workflows import (
    ExecutionFactory,
    ExecutionLogFactory,
    ExecutionNodeFactory,
    RunnerFactory,
    WorkflowFactory,
)

__all__ = [
    "COMMIT",
    "MODEL",
    "NOW",
    "PASSWORD",
    "TESTER",
    "WEBHOOK_SECRET",
    "AgentFactory",
    "ApiKeyFactory",
    "ApprovalFactory",
    "AuditChainFactory",
    "AuditLogFactory",
    "BudgetFactory",
    "ChatMessageFactory",
    "CheckpointFactory",
    "ClientFactory",
    "CorrectionFactory",
    "DemoFactory",
    "DemoFeedbackFactory",
    "EgressRecordFactory",
    "ExecutionFactory",
    "ExecutionLogFactory",
    "ExecutionNodeFactory",
    "LedgerEntryFactory",
    "MemberFactory",
    "MergeEntryFactory",
    "MessageCounterFactory",
    "MessageFactory",
    "NotificationFactory",
    "OutcomeFactory",
    "PlanFactory",
    "PriceFactory",
    "ProjectFactory",
    "PromptVersionFactory",
    "PulseFactory",
    "RecoveryFactory",
    "RecoverySettingsFactory",
    "RequirementFactory",
    "ReservationFactory",
    "RunEventFactory",
    "RunFactory",
    "RunnerFactory",
    "SecretFactory",
    "SpecialisationFactory",
    "SquadFactory",
    "SquadMemberFactory",
    "TaskDependencyFactory",
    "TaskFactory",
    "UserFactory",
    "VerificationFactory",
    "WebhookCursorFactory",
    "WebhookDeliveryFactory",
    "WebhookEndpointFactory",
    "WorkerFactory",
    "WorkflowFactory",
]
