"""Demos: previews of a commit, and what people said about them."""

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q

from demos.states import DEMO_TRANSITIONS, DemoStatus
from projects.ids import new_id
from projects.models import Project
from projects.states import pairs


class Demo(models.Model):
    """A numbered preview of one commit, reached under an unguessable host name until it expires or is revoked."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="demos")
    demo_number = models.PositiveIntegerField()
    status = models.CharField(max_length=20, choices=DemoStatus, default=DemoStatus.BUILDING)
    reason = models.CharField(max_length=64, blank=True, help_text="Machine-readable cause of the status.")
    detail = models.TextField(blank=True, help_text="The cause, in words for people.")
    commit = models.CharField(max_length=40, blank=True)
    summary = models.TextField(blank=True)
    token = models.CharField(max_length=64, unique=True, help_text="The host name's secret part.")
    preview_url = models.URLField(max_length=300)
    feedback = models.TextField(blank=True, help_text="What the decision said.")
    sandbox = models.CharField(max_length=100, blank=True, help_text="Name of the preview's sandbox.")
    address = models.CharField(max_length=100, blank=True, help_text="host:port of the application in it.")
    kept_by = models.CharField(max_length=100, blank=True, help_text="Worker on whose machine the preview runs.")
    created_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["expires_at"], condition=~Q(sandbox=""), name="demo_with_sandbox"),
            models.Index(fields=["project", "-created_at"], name="demo_of_project"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["project", "demo_number"], name="demo_number_once"),
            models.UniqueConstraint(
                fields=["project"], condition=Q(status=DemoStatus.APPROVED), name="demo_one_approved"
            ),
            models.CheckConstraint(
                condition=~Q(status=DemoStatus.APPROVED) | (~Q(commit="") & Q(approved_at__isnull=False)),
                name="demo_approved_has_commit",
            ),
            models.CheckConstraint(
                condition=~Q(status=DemoStatus.READY) | (~Q(commit="") & Q(ready_at__isnull=False)),
                name="demo_ready_has_commit",
            ),
        ]
        triggers = [pgtrigger.FSM(name="demo_fsm", field="status", transitions=pairs(DEMO_TRANSITIONS))]

    def __str__(self) -> str:
        return f"Demo {self.demo_number}"


class DemoFeedback(models.Model):
    """One remark about a demo."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    demo = models.ForeignKey(Demo, on_delete=models.CASCADE, related_name="remarks")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    body = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "demo feedback"
        indexes = [models.Index(fields=["demo", "created_at"], name="demo_feedback_of_demo")]

    def __str__(self) -> str:
        return self.body[:80]
