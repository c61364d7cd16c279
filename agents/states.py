"""States of agents, runs and workers. Data only: `agents.actions` writes them."""

from django.db import models

from projects.states import Transitions


class AgentStatus(models.TextChoices):
    """A member of a squad (seed 000 §5, agent lifecycle)."""

    SPAWN = "spawn"  # the row exists
    INIT = "init"  # prompt and model are being set
    READY = "ready"  # free for a task
    WORKING = "working"
    COMPLETE = "complete"  # just finished a task; becomes ready
    PAUSED = "paused"
    CHECKPOINT = "checkpoint"  # saved its state; becomes ready or working again
    BLOCKED = "blocked"  # waits for an answer
    FAILED = "failed"
    TERMINATED = "terminated"  # the project ended


_LIVE = frozenset(
    {
        AgentStatus.COMPLETE,
        AgentStatus.PAUSED,
        AgentStatus.CHECKPOINT,
        AgentStatus.BLOCKED,
        AgentStatus.FAILED,
        AgentStatus.READY,
        AgentStatus.TERMINATED,
    }
)
AGENT_TRANSITIONS: Transitions[AgentStatus] = {
    AgentStatus.SPAWN: frozenset({AgentStatus.INIT, AgentStatus.TERMINATED}),
    AgentStatus.INIT: frozenset({AgentStatus.READY, AgentStatus.FAILED, AgentStatus.TERMINATED}),
    AgentStatus.READY: frozenset({AgentStatus.WORKING, AgentStatus.PAUSED, AgentStatus.TERMINATED}),
    AgentStatus.WORKING: _LIVE,
    AgentStatus.COMPLETE: frozenset({AgentStatus.READY, AgentStatus.TERMINATED}),
    AgentStatus.PAUSED: frozenset({AgentStatus.READY, AgentStatus.TERMINATED}),
    AgentStatus.CHECKPOINT: frozenset({AgentStatus.READY, AgentStatus.WORKING, AgentStatus.TERMINATED}),
    AgentStatus.BLOCKED: frozenset({AgentStatus.READY, AgentStatus.WORKING, AgentStatus.TERMINATED}),
    AgentStatus.FAILED: frozenset({AgentStatus.READY, AgentStatus.TERMINATED}),
    AgentStatus.TERMINATED: frozenset(),
}


class RunStatus(models.TextChoices):
    """One attempt of one agent at one task."""

    QUEUED = "queued"  # a message to a worker is on its way
    STARTING = "starting"  # claimed: clone and sandbox are being made
    RUNNING = "running"  # the CLI works
    EVALUATING = "evaluating"  # the platform collects and verifies the change
    MERGING = "merging"  # the verified merge commit is recorded and becomes main
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"  # the lease ran out: its supervisor died
    CANCELLED = "cancelled"
    OVER_BUDGET = "over_budget"


ACTIVE_RUN = frozenset(
    {RunStatus.QUEUED, RunStatus.STARTING, RunStatus.RUNNING, RunStatus.EVALUATING, RunStatus.MERGING}
)
LEASED_RUN = ACTIVE_RUN - {RunStatus.QUEUED}
# From evaluating on the agent is gone, and what is left is the platform's own work.
STOPPABLE_RUN = frozenset({RunStatus.QUEUED, RunStatus.STARTING, RunStatus.RUNNING})
_ENDED_BADLY = frozenset({RunStatus.FAILED, RunStatus.LOST, RunStatus.CANCELLED, RunStatus.OVER_BUDGET})

RUN_TRANSITIONS: Transitions[RunStatus] = {
    RunStatus.QUEUED: frozenset({RunStatus.STARTING, RunStatus.LOST, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.STARTING: frozenset({RunStatus.RUNNING}) | _ENDED_BADLY,
    RunStatus.RUNNING: frozenset({RunStatus.EVALUATING, RunStatus.SUCCEEDED}) | _ENDED_BADLY,
    RunStatus.EVALUATING: frozenset({RunStatus.MERGING, RunStatus.SUCCEEDED}) | _ENDED_BADLY,
    RunStatus.MERGING: frozenset({RunStatus.SUCCEEDED, RunStatus.EVALUATING}) | _ENDED_BADLY,
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.LOST: frozenset(),
    RunStatus.CANCELLED: frozenset(),
    RunStatus.OVER_BUDGET: frozenset(),
}


class WorkerStatus(models.TextChoices):
    """A machine that executes runs."""

    ONLINE = "online"
    BUSY = "busy"  # at its capacity
    DRAINING = "draining"  # hands over what it has, takes nothing new
    OFFLINE = "offline"  # its heartbeat stopped
    ERROR = "error"  # it beats, and cannot take runs: its reason says why


class Trust(models.TextChoices):
    """Which projects a worker may see."""

    NORMAL = "normal"  # not those that are marked sensitive
    SENSITIVE = "sensitive"  # all


_ANY_WORKER = frozenset(WorkerStatus)
WORKER_TRANSITIONS: Transitions[WorkerStatus] = {status: _ANY_WORKER - {status} for status in WorkerStatus}


class MessageType(models.TextChoices):
    """The nine types of seed 000 §7."""

    TASK_ASSIGN = "TASK_ASSIGN"
    TASK_COMPLETE = "TASK_COMPLETE"
    TASK_FAILED = "TASK_FAILED"
    TASK_BLOCKED = "TASK_BLOCKED"
    TASK_PROGRESS = "TASK_PROGRESS"
    MENTOR_REQUEST = "MENTOR_REQUEST"
    MENTOR_REPLY = "MENTOR_REPLY"
    CHECKPOINT = "CHECKPOINT"
    HEARTBEAT = "HEARTBEAT"
