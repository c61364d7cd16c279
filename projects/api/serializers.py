"""The shapes of projects in the API."""

from decimal import Decimal

from rest_framework import serializers

from projects.actions.chat import MAX_CHAT_CHARS
from projects.actions.projects import MAX_BUDGET
from projects.audit import DIGESTED
from projects.models import Approval, AuditLog, ChatMessage, Project, Task


class ProjectSerializer(serializers.ModelSerializer[Project]):
    """A project in a list."""

    class Meta:
        model = Project
        fields: tuple[str, ...] = (
            "id",
            "name",
            "client_name",
            "status",
            "status_reason",
            "budget_limit",
            "budget_spent",
            "currency",
            "delivered_commit",
            "created_at",
            "completed_at",
        )


class ProjectDetailSerializer(ProjectSerializer):
    """A project by itself."""

    class Meta(ProjectSerializer.Meta):
        fields = (*ProjectSerializer.Meta.fields, "description", "approved_demo_id", "approved_demo_commit")


class NewProjectSerializer(serializers.Serializer[None]):
    """A brief, and what may be left to the platform."""

    brief = serializers.CharField(trim_whitespace=False)
    name = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)
    client_name = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)
    budget_limit = serializers.DecimalField(
        max_digits=10, decimal_places=2, min_value=Decimal(0), max_value=MAX_BUDGET, required=False, allow_null=True
    )


class ReasonSerializer(serializers.Serializer[None]):
    """Why."""

    reason = serializers.CharField(max_length=400, required=False, default="", allow_blank=True)


class TaskSerializer(serializers.ModelSerializer[Task]):
    """A task of a project's graph."""

    class Meta:
        model = Task
        fields = (
            "id",
            "key",
            "title",
            "kind",
            "role",
            "status",
            "reason",
            "detail",
            "progress",
            "priority",
            "attempts",
            "created_at",
            "started_at",
            "completed_at",
        )


class ApprovalSerializer(serializers.ModelSerializer[Approval]):
    """A decision asked of a person."""

    decided_by = serializers.CharField(source="decided_by.username", default="", read_only=True)

    class Meta:
        model = Approval
        fields = (
            "id",
            "project_id",
            "task_id",
            "kind",
            "subject_id",
            "title",
            "body",
            "options",
            "questions",
            "answers",
            "recommended",
            "status",
            "comment",
            "decided_by",
            "deadline_at",
            "created_at",
            "decided_at",
        )


class DecisionSerializer(serializers.Serializer[None]):
    """One of the approval's options, why, and for questions the answers in their order."""

    option = serializers.CharField(max_length=32)
    comment = serializers.CharField(max_length=20_000, required=False, default="", allow_blank=True)
    answers = serializers.ListField(
        child=serializers.CharField(max_length=4_000, allow_blank=True), required=False, default=list, max_length=50
    )


class NewMessageSerializer(serializers.Serializer[None]):
    """A line to the squad, in Markdown."""

    body = serializers.CharField(max_length=MAX_CHAT_CHARS)


class MessageSerializer(serializers.ModelSerializer[ChatMessage]):
    """A line of the conversation."""

    class Meta:
        model = ChatMessage
        fields = ("id", "author", "author_name", "body", "created_at")


class AuditSerializer(serializers.ModelSerializer[AuditLog]):
    """A row of the audit log, with what its hash covers."""

    class Meta:
        model = AuditLog
        fields = ("id", *DIGESTED, "hash")
