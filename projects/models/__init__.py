"""The tables of projects, one module per noun."""

from .approval import Approval, Correction
from .audit import AuditChain, AuditLog
from .chat import ChatMessage, Notification
from .client import Client
from .plan import Plan, Task, TaskDependency
from .project import Project, Requirement, Squad, SquadMember
from .secret import Secret
from .webhook import WebhookCursor, WebhookDelivery, WebhookEndpoint
from .workflow import Execution, ExecutionLog, ExecutionNode, Runner, Workflow

__all__ = [
    "Approval",
    "AuditChain",
    "AuditLog",
    "ChatMessage",
    "Client",
    "Correction",
    "Execution",
    "ExecutionLog",
    "ExecutionNode",
    "Notification",
    "Plan",
    "Project",
    "Requirement",
    "Runner",
    "Secret",
    "Squad",
    "SquadMember",
    "Task",
    "TaskDependency",
    "WebhookCursor",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Workflow",
]
