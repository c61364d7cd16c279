"""A role's system prompt in versions, and what each run under it led to."""

from decimal import Decimal

import pgtrigger
from django.db import models
from django.db.models import Q

from learning.states import PROMPT_TRANSITIONS, PromptStatus
from projects.ids import new_id
from projects.roles import Role
from projects.states import pairs


class PromptVersion(models.Model):
    """One version of a role's system prompt. `success_rate` is the share of its outcomes that succeeded.

    The text never changes once written, so that outcomes belong to what the runs were really told.
    """

    class Origin(models.TextChoices):
        """Who wrote it: a shipped file never replaces what a person wrote or chose."""

        SHIPPED = "shipped"
        PERSON = "person"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    agent_type = models.CharField(max_length=32, choices=Role)
    version = models.PositiveIntegerField()
    prompt_text = models.TextField()
    status = models.CharField(max_length=8, choices=PromptStatus, default=PromptStatus.DRAFT)
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.PERSON)
    success_rate = models.DecimalField(max_digits=5, decimal_places=4, null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["agent_type", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["agent_type", "version"], name="prompt_version_once"),
            models.UniqueConstraint(
                fields=["agent_type"], condition=Q(status="active"), name="prompt_one_active_per_role"
            ),
            models.CheckConstraint(
                condition=Q(success_rate__isnull=True) | Q(success_rate__gte=0, success_rate__lte=1),
                name="prompt_success_rate_is_share",
            ),
        ]
        triggers = [
            pgtrigger.FSM(name="prompt_fsm", field="status", transitions=pairs(PROMPT_TRANSITIONS)),
            pgtrigger.ReadOnly(name="prompt_text_stays", fields=["agent_type", "version", "prompt_text", "origin"]),
        ]

    def __str__(self) -> str:
        return f"{self.agent_type} v{self.version}"


class Outcome(models.Model):
    """What one run under a prompt version led to. Kept when the run is deleted."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    prompt_version = models.ForeignKey(PromptVersion, on_delete=models.PROTECT, related_name="outcomes")
    run_id = models.UUIDField(unique=True)
    project_id = models.UUIDField()
    succeeded = models.BooleanField()
    reason = models.CharField(max_length=64, blank=True)
    cost = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    duration_s = models.DecimalField(max_digits=10, decimal_places=3)
    turns = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["prompt_version", "-created_at"], name="outcome_of_version")]

    def __str__(self) -> str:
        return f"{self.prompt_version_id}: {'succeeded' if self.succeeded else self.reason}"
