"""Plans and the graph of tasks."""

from typing import ClassVar

import pgtrigger
from django.db import models
from django.db.models import F, Q

from projects.ids import new_id
from projects.roles import Role
from projects.states import (
    AWAITING_MERGE,
    OPEN_TASK,
    PLAN_TRANSITIONS,
    TASK_TRANSITIONS,
    PlanStatus,
    TaskKind,
    TaskStatus,
    pairs,
    values,
)

from .project import Project


class Plan(models.Model):
    """The architect's proposal: a graph of tasks. `content` holds the tasks as submitted, validated."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="plans")
    version = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=PlanStatus, default=PlanStatus.PROPOSED)
    summary = models.TextField(blank=True)
    content = models.JSONField(help_text="[{key, title, description, role, depends_on, estimate_minutes, …}]")
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "version"], name="plan_version_once"),
            models.UniqueConstraint(fields=["project"], condition=Q(status=PlanStatus.ACTIVE), name="plan_one_active"),
            models.UniqueConstraint(
                fields=["project"], condition=Q(status=PlanStatus.PROPOSED), name="plan_one_proposed"
            ),
            models.CheckConstraint(
                condition=Q(status=PlanStatus.PROPOSED, decided_at__isnull=True)
                | (~Q(status=PlanStatus.PROPOSED) & Q(decided_at__isnull=False)),
                name="plan_decided_has_time",
            ),
        ]
        triggers = [pgtrigger.FSM(name="plan_fsm", field="status", transitions=pairs(PLAN_TRANSITIONS))]

    def __str__(self) -> str:
        return f"Plan {self.version}"


class Task(models.Model):
    """A node of a project's graph.

    `unmet_count` is the number of dependencies that are not completed; the completing transaction lowers it.
    `agent_id` is a foreign key in the database only: agents is a higher app (its migration adds it).
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    plan = models.ForeignKey(Plan, null=True, blank=True, on_delete=models.CASCADE, related_name="tasks")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="subtasks")
    kind = models.CharField(max_length=16, choices=TaskKind)
    key = models.CharField(max_length=64)
    title = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    acceptance_criteria = models.JSONField(default=list, blank=True)
    role = models.CharField(max_length=32, choices=Role)
    specialisation = models.SlugField(
        max_length=40, blank=True, db_index=False, help_text="Narrows whoever works on it."
    )
    status = models.CharField(max_length=16, choices=TaskStatus, default=TaskStatus.PENDING)
    reason = models.CharField(max_length=64, blank=True, help_text="Machine-readable cause of the status.")
    detail = models.TextField(blank=True, help_text="The cause, in words for people.")
    progress = models.PositiveSmallIntegerField(default=0, help_text="Percent, as the agent reports it.")
    priority = models.IntegerField(default=0, help_text="Higher goes first.")
    unmet_count = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Runs that counted against the limit.")
    max_attempts = models.PositiveSmallIntegerField(default=3)
    next_attempt_at = models.DateTimeField(help_text="Not dispatched before this time.")
    estimate_minutes = models.PositiveIntegerField(default=0)
    agent_id = models.UUIDField(null=True, blank=True)
    context = models.JSONField(default=dict, blank=True, help_text="What the next run must know: conflict, failure.")
    result = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    dependencies: ClassVar["models.ManyToManyField[Task, TaskDependency]"] = models.ManyToManyField(
        "self", through="TaskDependency", symmetrical=False, related_name="dependents"
    )

    class Meta:
        indexes = [
            models.Index(
                F("priority").desc(),
                "next_attempt_at",
                "id",
                condition=Q(status=TaskStatus.READY),
                name="task_dispatch_order",
            ),
            models.Index(fields=["project", "id"], name="task_of_project"),
            models.Index(
                fields=["project", "role"],
                condition=Q(status__in=[TaskStatus.ALLOCATED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW]),
                name="task_running",
            ),
            models.Index(fields=["project"], condition=Q(status__in=values(OPEN_TASK)), name="task_open_of_project"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["project", "kind", "key"], name="task_key_once"),
            models.CheckConstraint(
                condition=Q(unmet_count=0) | Q(status__in=[TaskStatus.PENDING, TaskStatus.CANCELLED]),
                name="task_unmet_only_pending",
            ),
            models.CheckConstraint(condition=Q(progress__lte=100), name="task_progress_percent"),
            models.CheckConstraint(
                condition=~Q(status=TaskStatus.COMPLETED) | Q(completed_at__isnull=False),
                name="task_completed_has_time",
            ),
            models.CheckConstraint(
                condition=Q(kind=TaskKind.BUILD, plan__isnull=False) | (~Q(kind=TaskKind.BUILD) & Q(plan__isnull=True)),
                name="task_build_belongs_to_plan",
            ),
            models.CheckConstraint(
                condition=~Q(kind=TaskKind.CONFLICT) | Q(parent__isnull=False), name="task_conflict_has_parent"
            ),
            models.UniqueConstraint(
                fields=["parent"],
                condition=Q(kind=TaskKind.CONFLICT, status__in=values(OPEN_TASK)),
                name="task_one_open_conflict",
            ),
        ]
        triggers = [
            pgtrigger.FSM(name="task_fsm", field="status", transitions=pairs(TASK_TRANSITIONS)),
            pgtrigger.Protect(
                name="task_completed_unworked",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__status=TaskStatus.BLOCKED, new__status=TaskStatus.COMPLETED)
                & ~pgtrigger.Q(old__reason=AWAITING_MERGE),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.title}"


class TaskDependency(models.Model):
    """`task` may start when `depends_on` is completed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependency_edges")
    depends_on = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependent_edges")

    class Meta:
        verbose_name_plural = "task dependencies"
        constraints = [
            models.UniqueConstraint(fields=["task", "depends_on"], name="task_dependency_once"),
            models.CheckConstraint(condition=~Q(task=F("depends_on")), name="task_dependency_not_self"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} after {self.depends_on_id}"
