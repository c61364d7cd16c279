"""Decisions asked of a person, and the corrections that follow some of them."""

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q

from projects.ids import new_id
from projects.states import APPROVAL_TRANSITIONS, OPEN_APPROVAL, ApprovalKind, ApprovalStatus, pairs, values

from .plan import Task
from .project import Project


class Approval(models.Model):
    """One decision: one input, one recommended option, a default and a deadline.

    `options` is [{"value", "label"}], `subject_id` the plan, demo or task that is decided.
    `questions` (kind question) is [{"question", "options", "recommended"}], `answers` the answers in that order.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="approvals")
    task = models.ForeignKey(Task, null=True, blank=True, on_delete=models.CASCADE, related_name="approvals")
    kind = models.CharField(max_length=16, choices=ApprovalKind)
    subject_id = models.UUIDField()
    title = models.CharField(max_length=255)
    body = models.TextField(blank=True)
    options = models.JSONField(default=list)
    questions = models.JSONField(default=list, blank=True)
    answers = models.JSONField(default=list, blank=True)
    recommended = models.CharField(max_length=32, blank=True)
    default_option = models.CharField(max_length=32, blank=True, help_text="Taken when nobody decides in time.")
    deadline_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=16, choices=ApprovalStatus, default=ApprovalStatus.PENDING)
    comment = models.TextField(blank=True)
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        indexes = [
            models.Index(
                fields=["created_at", "id"],
                condition=Q(status__in=values(OPEN_APPROVAL)),
                name="approval_inbox",
            ),
            models.Index(fields=["project", "-created_at"], name="approval_of_project"),
            models.Index(fields=["-decided_at", "-id"], condition=Q(decided_at__isnull=False), name="approval_decided"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject_id"],
                condition=Q(status__in=values(OPEN_APPROVAL)),
                name="approval_open_once_per_subject",
            ),
            models.CheckConstraint(
                condition=Q(status__in=values(OPEN_APPROVAL), decided_at__isnull=True)
                | (~Q(status__in=values(OPEN_APPROVAL)) & Q(decided_at__isnull=False)),
                name="approval_decided_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(kind=ApprovalKind.BUDGET) | Q(default_option=""),
                name="approval_money_has_no_default",
            ),
        ]
        triggers = [pgtrigger.FSM(name="approval_fsm", field="status", transitions=pairs(APPROVAL_TRANSITIONS))]

    def __str__(self) -> str:
        return self.title

    @property
    def is_open(self) -> bool:
        """Whether somebody may still decide it."""
        return self.status in OPEN_APPROVAL


class Correction(models.Model):
    """What the admin wants different, from an amended or rejected approval. The next attempt is told."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="corrections")
    approval = models.ForeignKey(Approval, on_delete=models.CASCADE, related_name="corrections")
    text = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["project", "created_at"], name="correction_of_project")]

    def __str__(self) -> str:
        return self.text[:80]
