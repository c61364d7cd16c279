"""The project's conversation, and what people are told."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from projects.ids import new_id

from .approval import Approval
from .project import Project


class ChatMessage(models.Model):
    """One line of the conversation between the admin and the squad."""

    class Author(models.TextChoices):
        """Who speaks."""

        PERSON = "person"
        AGENT = "agent"
        SYSTEM = "system"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="chat")
    author = models.CharField(max_length=8, choices=Author)
    author_name = models.CharField(max_length=100)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    agent_id = models.UUIDField(null=True, blank=True)
    approval = models.ForeignKey(Approval, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    body = models.TextField(help_text="Markdown; rendered sanitised.")
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["project", "id"], name="chat_of_project")]

    def __str__(self) -> str:
        return self.body[:80]


class Notification(models.Model):
    """Something a person should know. `actions` is [{"label", "url"}]."""

    class Level(models.TextChoices):
        """How loud it is."""

        INFO = "info"
        WARNING = "warning"
        ERROR = "error"
        ACTION = "action"  # needs a decision

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.CASCADE, related_name="notifications")
    level = models.CharField(max_length=8, choices=Level)
    title = models.CharField(max_length=255)
    message = models.TextField(blank=True)
    actions = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="notification_newest"),
            models.Index(fields=["-created_at"], condition=Q(read_at__isnull=True), name="notification_unread"),
        ]

    def __str__(self) -> str:
        return self.title
