"""A client engagement, its squad and its requirements."""

from decimal import Decimal

import pgtrigger
from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from projects.ids import new_id
from projects.models.client import Client, follow_name
from projects.roles import Role
from projects.states import ACTIVE_PROJECT, PROJECT_TRANSITIONS, ProjectStatus, pairs, values


class Project(models.Model):
    """One client engagement: brief, budget, squad, repository, status.

    `budget_limit` and `budget_spent` repeat the project's row in `billing.Budget`, which is the truth; they are
    brought up to date when a run ends or the limit is changed (`actions.projects.record_budget`).
    `approved_demo_id` is a foreign key in the database only: demos is a higher app (its migration adds it).
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=255)
    client_name = models.CharField(max_length=255, blank=True)
    client = models.ForeignKey(
        Client,
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="projects",
        help_text="Follows from the client's name.",
    )
    description = models.TextField(help_text="The client's brief, as it was pasted.")
    status = models.CharField(max_length=16, choices=ProjectStatus, default=ProjectStatus.PLANNING)
    status_reason = models.CharField(max_length=500, blank=True, help_text="Why, in a sentence for people.")
    paused_from = models.CharField(max_length=16, choices=ProjectStatus, blank=True)
    budget_limit = models.DecimalField(max_digits=14, decimal_places=6, validators=[MinValueValidator(0)])
    budget_spent = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    currency = models.CharField(max_length=3, default="USD")
    config = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)
    approved_demo_id = models.UUIDField(null=True, blank=True)
    approved_demo_commit = models.CharField(max_length=40, blank=True)
    delivered_commit = models.CharField(max_length=40, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="project_newest"),
            models.Index(fields=["status", "-created_at"], name="project_by_status"),
            models.Index(
                fields=["-completed_at"], condition=Q(completed_at__isnull=False), name="project_recently_finished"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(budget_limit__gte=0) & Q(budget_spent__gte=0), name="project_money_not_negative"
            ),
            models.CheckConstraint(
                condition=~Q(status__in=[ProjectStatus.BUILDING, ProjectStatus.COMPLETE])
                | (Q(approved_demo_id__isnull=False) & ~Q(approved_demo_commit="")),
                name="project_build_needs_approved_demo",
            ),
            models.CheckConstraint(
                condition=Q(approved_demo_id__isnull=True, approved_demo_commit="")
                | (Q(approved_demo_id__isnull=False) & ~Q(approved_demo_commit="")),
                name="project_approved_demo_has_commit",
            ),
            models.CheckConstraint(
                condition=(Q(status=ProjectStatus.PAUSED) & Q(paused_from__in=values(ACTIVE_PROJECT)))
                | (~Q(status=ProjectStatus.PAUSED) & Q(paused_from="")),
                name="project_paused_knows_from_where",
            ),
            models.CheckConstraint(
                condition=~Q(status=ProjectStatus.COMPLETE) | (~Q(delivered_commit="") & Q(completed_at__isnull=False)),
                name="project_complete_has_delivery",
            ),
        ]
        triggers = [
            pgtrigger.FSM(name="project_fsm", field="status", transitions=pairs(PROJECT_TRANSITIONS)),
            follow_name(),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        """Whether new work may start."""
        return self.status in ACTIVE_PROJECT


class Squad(models.Model):
    """The composition of a project's agents."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="squad")
    max_concurrent_runs = models.PositiveSmallIntegerField(default=4, help_text="Runs of the project at once.")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"Squad of {self.project_id}"


class SquadMember(models.Model):
    """A role in a squad: how many agents, with which tool, model and limits."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    squad = models.ForeignKey(Squad, on_delete=models.CASCADE, related_name="members")
    role = models.CharField(max_length=32, choices=Role)
    count = models.PositiveSmallIntegerField(default=1)
    specialisation = models.SlugField(
        max_length=40,
        blank=True,
        db_index=False,
        help_text="Narrows all agents of this role; given under Roles in the portal.",
    )
    tool = models.CharField(max_length=32, default="claude_code")
    model = models.CharField(max_length=100)
    fallback_model = models.CharField(
        max_length=100, blank=True, help_text="Asked where the model is overloaded for long. Empty: none."
    )
    prompt_version_id = models.UUIDField(null=True, blank=True, help_text="Pinned version; empty = the active.")
    max_turns = models.PositiveIntegerField(default=60, help_text="Model requests per run.")
    max_minutes = models.PositiveIntegerField(default=30, help_text="Wall-clock minutes per run.")
    max_cost = models.DecimalField(max_digits=10, decimal_places=4, default=Decimal(5), help_text="Per run.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["squad", "role"], name="squad_role_once"),
            models.CheckConstraint(condition=Q(count__gte=1), name="squad_member_at_least_one"),
            models.CheckConstraint(condition=Q(max_cost__gte=0), name="squad_member_cost_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.count} × {self.role}"


class Requirement(models.Model):
    """What the client needs, with the criteria by which it is accepted."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="requirements")
    key = models.CharField(max_length=16)
    position = models.PositiveIntegerField()
    title = models.CharField(max_length=255)
    body = models.TextField(blank=True)
    acceptance_criteria = models.JSONField(default=list)
    created_at = models.DateTimeField()

    class Meta:
        ordering = [F("position").asc()]
        constraints = [
            models.UniqueConstraint(fields=["project", "key"], name="requirement_key_once"),
            models.UniqueConstraint(fields=["project", "position"], name="requirement_position_once"),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.title}"
