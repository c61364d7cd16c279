"""States of projects, plans, tasks, approvals, webhooks, executions, and which may follow which. Only data.

Few coarse states steer the program; a reason code and a sentence beside them explain to people.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from django.db import models

S = TypeVar("S", bound=models.TextChoices)
Transitions = Mapping[S, frozenset[S]]


class ProjectStatus(models.TextChoices):
    """Where a client engagement stands."""

    PLANNING = "planning"  # requirements and plan are being made or await approval
    DEMO = "demo"  # a demo is being built, shown or decided
    BUILDING = "building"  # the plan's tasks run
    COMPLETE = "complete"  # the repository was delivered
    PAUSED = "paused"  # nothing new starts; `paused_from` says where it goes on
    ARCHIVED = "archived"  # read-only, out of the lists
    CANCELLED = "cancelled"  # given up; nothing runs any more


ACTIVE_PROJECT = frozenset({ProjectStatus.PLANNING, ProjectStatus.DEMO, ProjectStatus.BUILDING})
GIVEN_UP_PROJECT = frozenset({ProjectStatus.CANCELLED, ProjectStatus.ARCHIVED})
OVER_PROJECT = GIVEN_UP_PROJECT | {ProjectStatus.COMPLETE}

PROJECT_TRANSITIONS: Transitions[ProjectStatus] = {
    ProjectStatus.PLANNING: frozenset({ProjectStatus.DEMO, ProjectStatus.PAUSED, ProjectStatus.CANCELLED}),
    ProjectStatus.DEMO: frozenset({ProjectStatus.BUILDING, ProjectStatus.PAUSED, ProjectStatus.CANCELLED}),
    ProjectStatus.BUILDING: frozenset({ProjectStatus.COMPLETE, ProjectStatus.PAUSED, ProjectStatus.CANCELLED}),
    ProjectStatus.PAUSED: ACTIVE_PROJECT | {ProjectStatus.CANCELLED, ProjectStatus.ARCHIVED},
    ProjectStatus.COMPLETE: frozenset({ProjectStatus.ARCHIVED}),
    ProjectStatus.CANCELLED: frozenset({ProjectStatus.ARCHIVED}),
    ProjectStatus.ARCHIVED: frozenset(),
}


class PlanStatus(models.TextChoices):
    """A plan is proposed by the architect and becomes active when the admin approves it."""

    PROPOSED = "proposed"  # awaits the admin's decision
    ACTIVE = "active"  # the one that is built; at most one per project
    AMENDED = "amended"  # sent back with corrections; a newer version follows
    REJECTED = "rejected"  # refused; a newer version follows
    SUPERSEDED = "superseded"  # was active, replaced by a newer one


PLAN_TRANSITIONS: Transitions[PlanStatus] = {
    PlanStatus.PROPOSED: frozenset({PlanStatus.ACTIVE, PlanStatus.AMENDED, PlanStatus.REJECTED}),
    PlanStatus.ACTIVE: frozenset({PlanStatus.SUPERSEDED}),
    PlanStatus.AMENDED: frozenset(),
    PlanStatus.REJECTED: frozenset(),
    PlanStatus.SUPERSEDED: frozenset(),
}


class TaskStatus(models.TextChoices):
    """A node of the project's graph of work."""

    PENDING = "pending"  # waits for the tasks it depends on
    READY = "ready"  # may be dispatched, from `next_attempt_at` on
    ALLOCATED = "allocated"  # a run was made for it and waits for a worker
    IN_PROGRESS = "in_progress"  # an agent works on it
    REVIEW = "review"  # the platform checks and merges the change
    COMPLETED = "completed"  # observed done
    BLOCKED = "blocked"  # needs an answer, from the mentor or a person, or waits until a conflict is resolved
    FAILED = "failed"  # its attempts are used up or it was given up
    CANCELLED = "cancelled"  # not needed any more


OPEN_TASK = frozenset(
    {
        TaskStatus.PENDING,
        TaskStatus.READY,
        TaskStatus.ALLOCATED,
        TaskStatus.IN_PROGRESS,
        TaskStatus.REVIEW,
        TaskStatus.BLOCKED,
    }
)
RUNNING_TASK = frozenset({TaskStatus.ALLOCATED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW})

TASK_TRANSITIONS: Transitions[TaskStatus] = {
    TaskStatus.PENDING: frozenset({TaskStatus.READY, TaskStatus.CANCELLED}),
    TaskStatus.READY: frozenset({TaskStatus.ALLOCATED, TaskStatus.BLOCKED, TaskStatus.CANCELLED}),
    TaskStatus.ALLOCATED: frozenset(
        {TaskStatus.IN_PROGRESS, TaskStatus.READY, TaskStatus.BLOCKED, TaskStatus.CANCELLED}
    ),
    TaskStatus.IN_PROGRESS: frozenset(
        {
            TaskStatus.REVIEW,
            TaskStatus.COMPLETED,
            TaskStatus.READY,
            TaskStatus.BLOCKED,
            TaskStatus.FAILED,
            TaskStatus.CANCELLED,
        }
    ),
    TaskStatus.REVIEW: frozenset(
        {TaskStatus.COMPLETED, TaskStatus.READY, TaskStatus.BLOCKED, TaskStatus.FAILED, TaskStatus.CANCELLED}
    ),
    # to completed: another task brought its change into main (AWAITING_MERGE), and for no other reason
    TaskStatus.BLOCKED: frozenset({TaskStatus.READY, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}),
    TaskStatus.FAILED: frozenset({TaskStatus.READY, TaskStatus.CANCELLED}),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.CANCELLED: frozenset(),
}


class ApprovalStatus(models.TextChoices):
    """A decision asked of a person."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    AMENDED = "amended"  # approved in spirit, sent back with a correction
    EXPIRED = "expired"  # the deadline passed and the default was taken, or the question fell away
    ESCALATED = "escalated"  # handed to somebody else


APPROVAL_TRANSITIONS: Transitions[ApprovalStatus] = {
    ApprovalStatus.PENDING: frozenset(
        {
            ApprovalStatus.APPROVED,
            ApprovalStatus.REJECTED,
            ApprovalStatus.AMENDED,
            ApprovalStatus.EXPIRED,
            ApprovalStatus.ESCALATED,
        }
    ),
    ApprovalStatus.ESCALATED: frozenset(
        {
            ApprovalStatus.APPROVED,
            ApprovalStatus.REJECTED,
            ApprovalStatus.AMENDED,
            ApprovalStatus.EXPIRED,
        }
    ),
    ApprovalStatus.APPROVED: frozenset(),
    ApprovalStatus.REJECTED: frozenset(),
    ApprovalStatus.AMENDED: frozenset(),
    ApprovalStatus.EXPIRED: frozenset(),
}
OPEN_APPROVAL = frozenset({ApprovalStatus.PENDING, ApprovalStatus.ESCALATED})


class WebhookStatus(models.TextChoices):
    """Whether a receiver is told of events."""

    ACTIVE = "active"
    DISABLED = "disabled"  # by a person, or because nothing got through for too long


WEBHOOK_TRANSITIONS: Transitions[WebhookStatus] = {
    WebhookStatus.ACTIVE: frozenset({WebhookStatus.DISABLED}),
    WebhookStatus.DISABLED: frozenset({WebhookStatus.ACTIVE}),
}


class DeliveryStatus(models.TextChoices):
    """One event on its way to one receiver."""

    PENDING = "pending"  # not tried yet
    FAILED = "failed"  # the last attempt failed; it is tried again at `next_attempt_at`
    DELIVERED = "delivered"  # the receiver answered with 2xx
    DEAD = "dead"  # given up: too many hours, or the webhook was disabled


DELIVERY_TRANSITIONS: Transitions[DeliveryStatus] = {
    DeliveryStatus.PENDING: frozenset({DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.DEAD}),
    # back to pending: a person has it sent again
    DeliveryStatus.FAILED: frozenset({DeliveryStatus.DELIVERED, DeliveryStatus.DEAD, DeliveryStatus.PENDING}),
    DeliveryStatus.DELIVERED: frozenset({DeliveryStatus.PENDING}),
    DeliveryStatus.DEAD: frozenset({DeliveryStatus.PENDING}),
}
OPEN_DELIVERY = frozenset({DeliveryStatus.PENDING, DeliveryStatus.FAILED})


class TaskKind(models.TextChoices):
    """What a task is for. The first three, the mentor's and conflicts are made by the platform, builds by the plan,
    steps by the execution of a workflow."""

    REQUIREMENTS = "requirements"
    PLAN = "plan"
    DEMO = "demo"
    BUILD = "build"
    MENTOR = "mentor"
    STEP = "step"
    CONFLICT = "conflict"


AWAITING_MERGE = "awaiting_merge"
"""Why a task is blocked whose change conflicts with main: a task of its own below it brings both together."""


class ApprovalKind(models.TextChoices):
    """What is decided."""

    PLAN = "plan"
    DEMO = "demo"
    QUESTION = "question"  # the product manager asks the client, through the admin
    BLOCKED_TASK = "blocked_task"
    BUDGET = "budget"


MAIN_JOB = "main_job"
"""The key of the workflow that is carried out of every brief."""


class Stage(models.TextChoices):
    """A part of the main job that the platform itself carries out, in the order in which a project goes through."""

    REQUIREMENTS = "requirements"  # the product manager asks and writes
    PLAN = "plan"  # the architect divides the work
    PLAN_APPROVAL = "plan_approval"  # a person decides about the plan
    DEMO = "demo"  # a developer builds something to look at, until it is shown
    DEMO_APPROVAL = "demo_approval"  # a person decides about the demo
    BUILD = "build"  # the tasks of the plan
    DELIVERY = "delivery"  # the last check, in a fresh clone


class ExecutionStatus(models.TextChoices):
    """One use of a workflow."""

    RUNNING = "running"  # its nodes are worked on, one after the other
    PAUSED = "paused"  # what runs ends; nothing new starts
    COMPLETED = "completed"  # no node is open any more
    FAILED = "failed"  # a node failed, and no edge says what to do then
    CANCELLED = "cancelled"  # given up


OPEN_EXECUTION = frozenset({ExecutionStatus.RUNNING, ExecutionStatus.PAUSED})

EXECUTION_TRANSITIONS: Transitions[ExecutionStatus] = {
    ExecutionStatus.RUNNING: frozenset(
        {ExecutionStatus.PAUSED, ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}
    ),
    ExecutionStatus.PAUSED: frozenset(
        {ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}
    ),
    # back to running: a person has a node and what follows it done anew
    ExecutionStatus.COMPLETED: frozenset({ExecutionStatus.RUNNING}),
    ExecutionStatus.FAILED: frozenset({ExecutionStatus.RUNNING}),
    ExecutionStatus.CANCELLED: frozenset({ExecutionStatus.RUNNING}),
}


class NodeStatus(models.TextChoices):
    """A node of an execution."""

    PENDING = "pending"  # waits for edges that lead to it
    HELD = "held"  # could start, but its execution is paused
    READY = "ready"  # may be claimed, from `not_before` on
    RUNNING = "running"  # somebody claimed it
    COMPLETED = "completed"  # did what it should; its result is stored
    FAILED = "failed"  # its attempts are used up
    SKIPPED = "skipped"  # cannot be reached any more
    CANCELLED = "cancelled"  # its execution ended before


NOT_BEGUN_NODE = frozenset({NodeStatus.PENDING, NodeStatus.HELD, NodeStatus.READY})
OPEN_NODE = NOT_BEGUN_NODE | {NodeStatus.RUNNING}

NODE_TRANSITIONS: Transitions[NodeStatus] = {
    # Straight to running: whoever completed its predecessor goes on with it.
    NodeStatus.PENDING: frozenset(
        {NodeStatus.READY, NodeStatus.HELD, NodeStatus.RUNNING, NodeStatus.SKIPPED, NodeStatus.CANCELLED}
    ),
    # back to pending: a person has it done anew, or one before it; to skipped from anywhere: a person left it out
    NodeStatus.HELD: frozenset({NodeStatus.READY, NodeStatus.PENDING, NodeStatus.SKIPPED, NodeStatus.CANCELLED}),
    NodeStatus.READY: frozenset(
        {NodeStatus.RUNNING, NodeStatus.HELD, NodeStatus.PENDING, NodeStatus.SKIPPED, NodeStatus.CANCELLED}
    ),
    NodeStatus.RUNNING: frozenset(
        {
            NodeStatus.COMPLETED,
            NodeStatus.FAILED,
            NodeStatus.READY,
            NodeStatus.HELD,
            NodeStatus.PENDING,
            NodeStatus.SKIPPED,
            NodeStatus.CANCELLED,
        }
    ),
    NodeStatus.COMPLETED: frozenset({NodeStatus.PENDING}),
    NodeStatus.FAILED: frozenset({NodeStatus.PENDING}),
    NodeStatus.SKIPPED: frozenset({NodeStatus.PENDING}),
    NodeStatus.CANCELLED: frozenset({NodeStatus.PENDING}),
}


def pairs(transitions: Transitions[S]) -> list[tuple[str, str]]:
    """Return the allowed steps as (from, to) values, sorted: the shape that `pgtrigger.FSM` takes."""
    return sorted((old.value, new.value) for old, news in transitions.items() for new in news)


def values(states: Iterable[models.TextChoices]) -> list[str]:
    """Return the states' values, sorted, for use in queries and constraints."""
    return sorted(str(state.value) for state in states)
