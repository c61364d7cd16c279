"""The conversation, and what people are told."""

import pytest

from projects.actions import chat
from projects.actors import Actor
from projects.models import AuditLog, Notification
from tests.factories import NOW, TESTER, AgentFactory, NotificationFactory, ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_line_of_a_person_names_the_user() -> None:
    user = UserFactory()
    line = chat.post_message(ProjectFactory(), "Hello.", by=Actor.person(user), now=NOW)
    line.refresh_from_db()
    assert (line.author, line.author_name, line.user, line.agent_id) == ("person", user.username, user, None)


def test_line_of_an_agent_names_the_agent() -> None:
    agent = AgentFactory()
    line = chat.post_message(agent.project, "Done.", by=Actor.agent(agent.pk, agent.name), now=NOW)
    line.refresh_from_db()
    assert (line.author, line.author_name, line.agent_id) == ("agent", agent.name, agent.pk)


def test_line_is_told_by_its_key_alone() -> None:
    line = chat.post_message(ProjectFactory(), "Hello.", by=TESTER, now=NOW)
    row = AuditLog.objects.get()
    assert row.event_payload == {"projectId": str(line.project_id), "messageId": str(line.pk)}
    assert "Hello" not in str(row.details)


@pytest.mark.parametrize("text", ["", "\x00\ud800", "🦉" * 30_000, "<script>alert(1)</script>", "\u202eright to left"])
def test_any_text_can_be_posted(text: str) -> None:
    line = chat.post_message(ProjectFactory(), text, by=TESTER, now=NOW)
    line.refresh_from_db()
    assert len(line.body) == min(len(text), chat.MAX_CHAT_CHARS)


def test_notification_is_told_with_seed_payload() -> None:
    links = [{"label": "Open", "url": "/"}]
    level = Notification.Level.WARNING
    chat.notify(None, level=level, title="Slow", message="Why.", links=links, by=TESTER, now=NOW)
    row = AuditLog.objects.get(event_type="notification")
    assert row.event_payload == {"level": "warning", "title": "Slow", "message": "Why.", "actions": links}
    assert row.chain == "account"


def test_reading_marks_all_that_is_unread() -> None:
    NotificationFactory.create_batch(2)
    NotificationFactory(read_at=NOW)
    assert chat.mark_read(by=TESTER, now=NOW) == 2
    assert not Notification.objects.filter(read_at=None).exists()
    assert AuditLog.objects.get().details == {"count": 2}


def test_reading_nothing_is_not_recorded() -> None:
    assert chat.mark_read(by=TESTER, now=NOW) == 0
    assert not AuditLog.objects.exists()
