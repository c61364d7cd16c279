"""Workflows, and their executions with the state of each node. `projects.workflows.statements` writes the nodes."""

from uuid import UUID

import pgtrigger
from django.db import models
from django.db.models import F, Q

from projects.ids import new_id
from projects.states import (
    EXECUTION_TRANSITIONS,
    NODE_TRANSITIONS,
    OPEN_EXECUTION,
    OPEN_NODE,
    ExecutionStatus,
    NodeStatus,
    pairs,
    values,
)

from .audit import append_only
from .plan import Task
from .project import Project

# The lane of nodes that belong to no project: the last of all.
NO_PROJECT = UUID(int=2**128 - 1)
# The log of an execution that is there stays as it is; that of one that was forgotten may go too.
_FORGOTTEN_ONLY = """
    IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM projects_execution WHERE id = OLD.execution_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME;
"""


class Workflow(models.Model):
    """One version of a workflow. It never changes: whoever wants it different makes the next version."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    key = models.CharField(max_length=64)
    version = models.PositiveIntegerField()
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    definition = models.JSONField(help_text="{nodes: […], edges: […]}, validated (docs/workflows.md)")
    is_shipped = models.BooleanField(default=False, help_text="Came with Eklavya, and not from a person.")
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "version"], name="workflow_version_once"),
            models.CheckConstraint(condition=Q(key__regex=r"^[a-z0-9][a-z0-9_-]{0,63}$"), name="workflow_key_is_a_key"),
        ]
        triggers = [pgtrigger.ReadOnly(name="workflow_never_changes")]

    def __str__(self) -> str:
        return f"{self.key} {self.version}"


class Execution(models.Model):
    """One use of a workflow. Its nodes are made with it, all at once.

    `open_count` is the number of nodes that have not ended; the transaction that ends the last completes it.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="executions")
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="executions", db_index=False
    )  # execution_of_project begins with it
    key = models.CharField(max_length=200, null=True, blank=True, help_text="Whoever starts it again by it gets this.")
    status = models.CharField(max_length=16, choices=ExecutionStatus, default=ExecutionStatus.RUNNING)
    detail = models.TextField(blank=True, help_text="The cause of the status, in words for people.")
    input = models.JSONField(default=dict, blank=True)
    result = models.JSONField(default=dict, blank=True, help_text="Results of the nodes that nothing follows, by key.")
    open_count = models.PositiveIntegerField()
    redone = models.PositiveIntegerField(default=0, db_default=0, help_text="How often nodes of it were done anew.")
    started_by = models.CharField(max_length=150)
    audited_status = models.CharField(max_length=16, blank=True, help_text="The last status in the audit log.")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["project", "-id"], name="execution_of_project"),
            models.Index(fields=["id"], condition=~Q(audited_status=F("status")), name="execution_unaudited"),
            models.Index(fields=["id"], condition=Q(status__in=values(OPEN_EXECUTION)), name="execution_open"),
            models.Index(fields=["finished_at"], condition=Q(finished_at__isnull=False), name="execution_ended"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["key"], name="execution_key_once"),
            models.CheckConstraint(
                condition=Q(status__in=values(OPEN_EXECUTION), finished_at__isnull=True)
                | (~Q(status__in=values(OPEN_EXECUTION)) & Q(finished_at__isnull=False)),
                name="execution_ended_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(status=ExecutionStatus.COMPLETED) | Q(open_count=0),
                name="execution_completed_has_none_open",
            ),
        ]
        triggers = [
            pgtrigger.FSM(
                name="execution_fsm",
                field="status",
                transitions=pairs(EXECUTION_TRANSITIONS),
                condition=pgtrigger.AnyChange("status"),  # most changes are of the count
            )
        ]

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.key or self.pk}"


class Runner(models.Model):
    """A thread of some worker process that runs nodes. It is alive as long as it holds the advisory lock of its id:
    PostgreSQL lets go of that in the moment in which the process dies."""

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=255, help_text="Host and process.")
    started_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} #{self.pk}"


class ExecutionNode(models.Model):
    """A node of an execution: where it stands, and what it returned.

    Two counters say when it may start: `unmet_count` edges must still be met, `open_edges` are undecided. None unmet:
    it is ready. More unmet than undecided: it can never be, and is skipped. A claim is known by `runner` and `attempts`
    together: a result that comes with others is late, and changes nothing.
    """

    id = models.BigAutoField(primary_key=True)
    # node_position_once begins with it
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="nodes", db_index=False)
    position = models.PositiveIntegerField(help_text="Its place in the workflow's list of nodes, from 0.")
    key = models.CharField(max_length=64)
    kind = models.CharField(max_length=8, choices={"task": "Task", "function": "Function", "stage": "Stage"})
    task = models.OneToOneField(
        Task, null=True, blank=True, on_delete=models.CASCADE, related_name="node", help_text="The one it waits for."
    )
    status = models.CharField(max_length=16, choices=NodeStatus)
    priority = models.SmallIntegerField(default=0)
    unmet_count = models.PositiveIntegerField()
    open_edges = models.PositiveIntegerField()
    attempts = models.PositiveIntegerField(default=0, help_text="How often it was claimed.")
    attempts_before = models.PositiveIntegerField(
        default=0, db_default=0, help_text="How many of those were before it was last done anew: its tries come after."
    )
    repeats = models.PositiveIntegerField(default=0, db_default=0, help_text="How often its edges led back.")
    timeout_s = models.PositiveIntegerField()
    runner = models.IntegerField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(help_text="Not claimed before this time.")
    rank_at = models.DateTimeField(help_text="Its place in the queue: when it became ready, less a minute a priority.")
    lane = models.UUIDField(
        default=NO_PROJECT, db_default=NO_PROJECT, help_text="Whose share of the queue it takes: its project's id."
    )
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["rank_at", "id"], condition=Q(status=NodeStatus.READY, kind="function"), name="node_claim_order"
            ),
            models.Index(
                fields=["lane", "rank_at", "id"],
                condition=Q(status=NodeStatus.READY, kind="function"),
                name="node_claim_by_lane",
            ),
            models.Index(fields=["runner"], condition=Q(status=NodeStatus.RUNNING), name="node_of_runner"),
            models.Index(
                fields=["execution"], condition=Q(status=NodeStatus.READY) & ~Q(kind="function"), name="node_to_begin"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["execution", "position"], name="node_position_once"),
            models.CheckConstraint(
                condition=Q(status=NodeStatus.RUNNING, kind="function", runner__isnull=False, lease_until__isnull=False)
                | Q(status=NodeStatus.RUNNING, kind="task", task__isnull=False, runner__isnull=True)
                | Q(status=NodeStatus.RUNNING, kind="stage", task__isnull=True, runner__isnull=True)
                | (~Q(status=NodeStatus.RUNNING) & Q(runner__isnull=True, lease_until__isnull=True)),
                name="node_running_has_lease",
            ),
            models.CheckConstraint(
                condition=Q(status__in=values(OPEN_NODE), finished_at__isnull=True)
                | (~Q(status__in=values(OPEN_NODE)) & Q(finished_at__isnull=False)),
                name="node_ended_has_time",
            ),
        ]
        triggers = [pgtrigger.FSM(name="node_fsm", field="status", transitions=pairs(NODE_TRANSITIONS))]

    def __str__(self) -> str:
        return f"{self.key} of {self.execution_id}"


class ExecutionLog(models.Model):
    """What happened to the nodes of an execution. Append-only as long as the execution is there, and without foreign
    keys."""

    id = models.BigAutoField(primary_key=True)
    execution_id = models.UUIDField()
    position = models.PositiveIntegerField(null=True, blank=True)
    event = models.CharField(max_length=16)
    detail = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["execution_id", "id"], name="execution_log_order")]
        triggers = [
            pgtrigger.Trigger(
                name="execution_log_kept",
                operation=pgtrigger.Update | pgtrigger.Delete,
                when=pgtrigger.Before,
                func=_FORGOTTEN_ONLY,
            ),
            append_only("execution_log")[1],
        ]

    def __str__(self) -> str:
        return f"{self.execution_id} {self.position} {self.event}"
