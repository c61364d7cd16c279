"""What is sent: one event as JSON, in headers and a body of the Standard Webhooks form."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from projects import events
from projects.models import AuditLog, WebhookDelivery
from projects.webhooks import signing

# What people choose from. A line of a transcript (run:events) is no row of the audit log, and not sent.
SENT_TYPES = {
    events.PROJECT_CREATED: "A project begins",
    events.PROJECT_STATUS: "A project enters another phase, is paused, resumed or delivered",
    events.TASK_STATUS: "A task changes its state",
    events.AGENT_SPAWNED: "An agent joins a squad",
    events.AGENT_WORKING: "An agent begins a task",
    events.AGENT_COMPLETED: "An agent ends a task",
    events.AGENT_BLOCKED: "An agent cannot go on",
    events.DEMO_READY: "A preview can be looked at",
    events.DEMO_APPROVED: "A demo is decided: approved, to be changed, or rejected",
    events.BUDGET_WARNING: "Much of a budget is used",
    events.BUDGET_EXCEEDED: "A budget is used up",
    events.CHAT_MESSAGE: "Somebody writes in a project",
    events.NOTIFICATION: "People are told something, such as that a decision waits",
}
TEST_TYPE = "webhook:test"
_USER_AGENT = "Eklavya-Webhooks/1"


@dataclass(frozen=True)
class Message:
    """What goes to `url`: the headers are signed, the body is JSON."""

    url: str
    headers: dict[str, str]
    body: bytes


def compose(delivery: WebhookDelivery, event: AuditLog | None, *, now: datetime) -> Message:
    """Return what an attempt at this time sends. `event` is the row that the delivery names; None for a test.

    The id is the event's, as in every other live channel, and the same at each attempt: receivers drop what they
    have seen. The body is the same, too; time and signature are the attempt's. Raises SecretUnreadable.
    """
    endpoint = delivery.endpoint
    body = json.dumps(_content(delivery, event), ensure_ascii=False, separators=(",", ":")).encode()
    message_id, timestamp = str(delivery.event_id), int(now.timestamp())
    keys = signing.secrets_of(endpoint, now=now)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": _USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature(keys, message_id=message_id, timestamp=timestamp, body=body),
    }
    return Message(endpoint.url, headers, body)


def _content(delivery: WebhookDelivery, event: AuditLog | None) -> dict[str, Any]:
    happened = event.timestamp if event else delivery.created_at
    return {
        "id": str(delivery.event_id),
        "type": delivery.event_type,
        "timestamp": happened.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "projectId": str(event.project_id) if event and event.project_id else None,
        "seq": delivery.event_seq,
        "data": event.event_payload if event else {"webhookId": str(delivery.endpoint_id)},
    }
