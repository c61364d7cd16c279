"""Live events: the news of committed audit rows, published by id.

An action writes the row in its transaction (`projects.audit`); once that commits, `publish` hands the rows' ids to
whoever subscribed. Higher apps are not known here: `eklavya.wiring` subscribes the broadcast to browsers and the
reactions. A publication may be lost; the rows are the truth, and a periodic sweep acts on what was missed.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

logger = logging.getLogger(__name__)

# The eleven of seed 000 §7, with their payloads (camelCase, as programs in browsers expect).
PROJECT_CREATED = "project:created"  # { projectId, name, clientName }
PROJECT_STATUS = "project:status"  # { projectId, status, progress }
AGENT_SPAWNED = "agent:spawned"  # { projectId, agentId, agentType }
AGENT_WORKING = "agent:working"  # { agentId, taskId, description }
AGENT_COMPLETED = "agent:completed"  # { agentId, taskId, result }
AGENT_BLOCKED = "agent:blocked"  # { agentId, reason, needsAdmin }
DEMO_READY = "demo:ready"  # { projectId, demoNumber, previewUrl }
DEMO_APPROVED = "demo:approved"  # { projectId, demoNumber, decision }: of each decision, not of approvals alone
BUDGET_WARNING = "budget:warning"  # { projectId, spent, limit, percent }
BUDGET_EXCEEDED = "budget:exceeded"  # { projectId, spent, limit }
NOTIFICATION = "notification"  # { level, title, message, actions }
# Our own: the rows of a page that no seed event covers.
TASK_STATUS = "task:status"  # { projectId, taskId, status, progress }
CHAT_MESSAGE = "chat:message"  # { projectId, messageId }
RUN_EVENTS = "run:events"  # { projectId, runId, lastSeq }: not an audit row, sent by the supervisor

EVENT_TYPES = frozenset(
    {
        PROJECT_CREATED,
        PROJECT_STATUS,
        AGENT_SPAWNED,
        AGENT_WORKING,
        AGENT_COMPLETED,
        AGENT_BLOCKED,
        DEMO_READY,
        DEMO_APPROVED,
        BUDGET_WARNING,
        BUDGET_EXCEEDED,
        NOTIFICATION,
        TASK_STATUS,
        CHAT_MESSAGE,
        RUN_EVENTS,
    }
)


@dataclass(frozen=True)
class Event:
    """What browsers and programs are told."""

    type: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Published:
    """One committed audit row, as subscribers see it: enough to decide whether to look."""

    id: UUID
    project_id: UUID | None
    action: str
    object_id: str
    details: dict[str, Any]
    event_type: str
    event_payload: dict[str, Any] | None


Subscriber = Callable[[Sequence[Published]], None]
_subscribers: list[Subscriber] = []


def subscribe(subscriber: Subscriber) -> None:
    """Have `subscriber` called after each commit with the rows it wrote. For `eklavya.wiring` alone."""
    if subscriber not in _subscribers:
        _subscribers.append(subscriber)


def publish(rows: Sequence[Published]) -> None:
    """Tell all subscribers. Runs after the commit: a failing one is logged and cannot undo anything."""
    for subscriber in _subscribers:
        try:
            subscriber(rows)
        except Exception:  # the change is committed; a lost hint is only late, the sweep finds it
            logger.exception("event subscriber failed", extra={"rows": [str(row.id) for row in rows]})
