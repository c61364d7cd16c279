"""The conversation of a project, and what people are told."""

from datetime import datetime
from typing import Any

from projects import audit
from projects.actors import Actor, ActorKind
from projects.events import CHAT_MESSAGE, NOTIFICATION, Event
from projects.ids import new_id
from projects.jsontext import storable_text
from projects.models import Approval, ChatMessage, Notification, Project

MAX_CHAT_CHARS = 20_000
_AUTHORS = {
    ActorKind.PERSON: ChatMessage.Author.PERSON,
    ActorKind.AGENT: ChatMessage.Author.AGENT,
    ActorKind.SYSTEM: ChatMessage.Author.SYSTEM,
}


def post_message(
    project: Project, body: str, *, by: Actor, now: datetime, approval: Approval | None = None
) -> ChatMessage:
    """Add a line to the conversation. `body` is Markdown, cut at MAX_CHAT_CHARS; it is shown sanitised."""
    with audit.journal(by=by, now=now) as journal:
        message = ChatMessage.objects.create(
            id=new_id(),
            project=project,
            author=_AUTHORS[by.kind],
            author_name=by.name,
            user_id=by.user_id,
            agent_id=by.agent_id,
            approval=approval,
            body=storable_text(body, max_chars=MAX_CHAT_CHARS),
            created_at=now,
        )
        journal.add(
            "chat.posted",
            project_id=project.pk,
            obj=message,
            event=Event(CHAT_MESSAGE, {"projectId": project.pk, "messageId": message.pk}),
        )
    return message


def notify(
    project: Project | None,
    *,
    level: Notification.Level,
    title: str,
    message: str = "",
    links: list[dict[str, str]] | None = None,
    by: Actor,
    now: datetime,
) -> Notification:
    """Tell people something. `links` is [{"label", "url"}], shown as buttons."""
    with audit.journal(by=by, now=now) as journal:
        notification = Notification.objects.create(
            id=new_id(),
            project=project,
            level=level,
            title=storable_text(title, max_chars=255),
            message=storable_text(message, max_chars=4_000),
            actions=links or [],
            created_at=now,
        )
        payload: dict[str, Any] = {
            "level": notification.level,
            "title": notification.title,
            "message": notification.message,
            "actions": notification.actions,
        }
        journal.add(
            "notification.sent",
            project_id=project.pk if project else None,
            obj=notification,
            event=Event(NOTIFICATION, payload),
        )
    return notification


def mark_read(*, by: Actor, now: datetime) -> int:
    """Mark all unread notifications as read and return how many there were."""
    with audit.journal(by=by, now=now) as journal:
        count = Notification.objects.filter(read_at__isnull=True).update(read_at=now)
        if count:
            journal.add("notification.read", details={"count": count})
    return count
