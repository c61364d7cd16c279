"""Agents, their runs and what the runs left behind; workers; messages between agents."""

from decimal import Decimal

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q

from accounts.models import ApiKey
from agents.states import (
    ACTIVE_RUN,
    AGENT_TRANSITIONS,
    LEASED_RUN,
    RUN_TRANSITIONS,
    WORKER_TRANSITIONS,
    AgentStatus,
    MessageType,
    RunStatus,
    Trust,
    WorkerStatus,
)
from projects.ids import new_id
from projects.models import Project, SquadMember, Task
from projects.models.audit import append_only
from projects.roles import Role
from projects.states import pairs, values

# Of remote workers: followed by the machine id, a dot, and the queue of the machine that supervises its runs.
REMOTE_QUEUE = "remote."


def supervising_queue(queue: str) -> str:
    """Return where the supervisor of a worker's runs listens: for a remote worker's on the machine where it joined."""
    return queue.split(".", 2)[2] if queue.startswith(REMOTE_QUEUE) else queue


class Worker(models.Model):
    """A machine that executes runs: a Celery node with its own queue, or a remote worker, which joined with `key`.

    It takes new runs while it is online or busy (then it has no room), not cordoned, and has no `reason` against it.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100, unique=True)
    queue = models.CharField(max_length=120, unique=True)
    status = models.CharField(max_length=8, choices=WorkerStatus, default=WorkerStatus.ONLINE)
    capacity = models.PositiveSmallIntegerField(help_text="Runs at once.")
    runtime = models.CharField(max_length=16)
    machine_id = models.CharField(max_length=64, blank=True, help_text="Stays when the machine gets another name.")
    trust = models.CharField(max_length=9, choices=Trust, default=Trust.NORMAL)
    tools = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    info = models.JSONField(default=dict, blank=True, help_text="CPUs and memory, as reported when it registered.")
    load = models.JSONField(default=dict, blank=True, help_text="Its last reading: see agents.machine.Reading.")
    reason = models.CharField(max_length=64, blank=True, help_text="Why it takes no new run: disk_short, clock_ahead…")
    cordoned_at = models.DateTimeField(null=True, blank=True, help_text="Since when people let it take nothing new.")
    key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", help_text="Of a remote worker."
    )
    registered_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(capacity__gte=1), name="worker_has_capacity"),
            models.UniqueConstraint(fields=["machine_id"], condition=~Q(machine_id=""), name="worker_machine_once"),
            models.CheckConstraint(
                condition=~Q(status="draining") | Q(cordoned_at__isnull=False), name="worker_draining_is_cordoned"
            ),
        ]
        triggers = [pgtrigger.FSM(name="worker_fsm", field="status", transitions=pairs(WORKER_TRANSITIONS))]

    def __str__(self) -> str:
        return self.name

    @property
    def is_remote(self) -> bool:
        """Whether it joined by the API: its runs are supervised by the server."""
        return self.queue.startswith(REMOTE_QUEUE)


class Specialisation(models.Model):
    """A base role with less, made by an admin. Never changed: whoever has it has what was decided then.

    `narrowing` is what `agents.roles.Narrowing` keeps of itself; what it asks beyond the base role is not given.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    key = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=100)
    about = models.CharField(max_length=300, blank=True)
    base_role = models.CharField(max_length=32, choices=Role)
    narrowing = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(key=""), name="specialisation_has_key")]
        triggers = [pgtrigger.Protect(name="specialisation_stays", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return self.name


class Agent(models.Model):
    """A member of a project's squad. `pid` and `working_dir` are those of its current run, empty between runs.

    The process is on the machine that supervises the run: the CLI itself, or what speaks to it in its container or on
    its remote worker.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="agents")
    member = models.ForeignKey(SquadMember, null=True, on_delete=models.SET_NULL, related_name="agents")
    agent_type = models.CharField(max_length=32, choices=Role)
    specialisation = models.SlugField(
        max_length=40, blank=True, help_text="Narrows its role: a built-in one, or a Specialisation's key."
    )
    name = models.CharField(max_length=100)
    status = models.CharField(max_length=12, choices=AgentStatus, default=AgentStatus.SPAWN)
    pid = models.PositiveIntegerField(null=True, blank=True)
    working_dir = models.CharField(max_length=500, blank=True)
    tokens_used = models.PositiveBigIntegerField(default=0)
    last_heartbeat = models.DateTimeField(null=True, blank=True)
    inbox_seq = models.PositiveBigIntegerField(default=0, help_text="Messages up to this number count as read.")
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["project", "agent_type", "status"], name="agent_free_by_role"),
            models.Index(fields=["-created_at", "-id"], name="agent_newest"),
        ]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="agent_name_once")]
        triggers = [pgtrigger.FSM(name="agent_fsm", field="status", transitions=pairs(AGENT_TRANSITIONS))]

    def __str__(self) -> str:
        return self.name


class Run(models.Model):
    """One attempt of one agent at one task: one sandbox, one Claude Code process, one lease, one cost.

    Whoever holds the lease (`lease_owner` until `lease_until`) alone moves the run on; the sweep ends it as lost
    when the lease ran out. `token_hash` is the SHA-256 of the run token, empty as soon as the run ended.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="runs")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="runs")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="runs")
    worker = models.ForeignKey(Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    attempt = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=12, choices=RunStatus, default=RunStatus.QUEUED)
    reason = models.CharField(max_length=64, blank=True, help_text="Machine-readable cause of the status.")
    detail = models.TextField(blank=True, help_text="The cause, in words for people.")
    allocation = models.JSONField(default=dict, blank=True, help_text="Why this worker: its score and the others'.")
    runtime = models.CharField(max_length=16, blank=True)
    model = models.CharField(max_length=100)
    specialisations = models.JSONField(
        default=list, blank=True, help_text="What narrows its role: of its squad's row, its agent and its task."
    )
    max_turns = models.PositiveIntegerField(null=True, blank=True, help_text="Model requests; empty: its squad's row.")
    prompt_version_id = models.UUIDField(null=True, blank=True)
    token_hash = models.CharField(max_length=64, blank=True)
    lease_owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    rehearsal = models.BooleanField(
        default=False, help_text="Whether the rehearsal model answered when it was claimed: then nobody pays its cost."
    )
    base_commit = models.CharField(max_length=40, blank=True)
    commit = models.CharField(max_length=40, blank=True)
    merge_commit = models.CharField(max_length=40, blank=True, help_text="Recorded before main is moved to it.")
    stop_requested = models.CharField(
        max_length=32, blank=True, help_text="Why its supervisor is asked to end it: cancelled, paused, over_budget."
    )
    model_silent_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when the model's API answers none of its requests; empty once it does."
    )
    outcome = models.JSONField(default=dict, blank=True, help_text="The ending verb and its arguments.")
    turns = models.PositiveIntegerField(default=0)
    tokens_used = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    last_seq = models.PositiveBigIntegerField(default=0, help_text="Sequence of its newest event.")
    inbox_seq = models.PositiveBigIntegerField(default=0, help_text="Up to which message it has read.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    program_began_at = models.DateTimeField(
        null=True, blank=True, help_text="When its program was started: before the run was made when it waited for it."
    )
    program_up_at = models.DateTimeField(null=True, blank=True, help_text="When its program could be spoken to.")
    program_ended_at = models.DateTimeField(null=True, blank=True)
    first_request_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["project", "-created_at", "-id"], name="run_of_project"),
            models.Index(fields=["task", "-attempt"], name="run_of_task"),
            models.Index(fields=["lease_until"], condition=Q(status__in=values(ACTIVE_RUN)), name="run_leases"),
            models.Index(fields=["created_at"], condition=Q(status="queued"), name="run_queued"),
            models.Index(fields=["project"], condition=Q(rehearsal=False, started_at__isnull=False), name="run_real"),
            models.Index(fields=["-created_at", "-id"], name="run_newest"),
            models.Index(fields=["worker"], condition=Q(status__in=values(ACTIVE_RUN)), name="run_of_worker"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["task"], condition=Q(status__in=values(ACTIVE_RUN)), name="run_one_active_per_task"
            ),
            models.UniqueConstraint(
                fields=["agent"], condition=Q(status__in=values(ACTIVE_RUN)), name="run_one_active_per_agent"
            ),
            models.UniqueConstraint(fields=["token_hash"], condition=~Q(token_hash=""), name="run_token_unique"),
            models.UniqueConstraint(fields=["task", "attempt"], name="run_attempt_once"),
            models.CheckConstraint(
                condition=~Q(status__in=values(LEASED_RUN)) | (Q(lease_until__isnull=False) & ~Q(lease_owner="")),
                name="run_working_has_lease",
            ),
            models.CheckConstraint(
                condition=Q(status__in=values(ACTIVE_RUN), finished_at__isnull=True)
                | (~Q(status__in=values(ACTIVE_RUN)) & Q(finished_at__isnull=False, token_hash="")),
                name="run_ended_has_no_token",
            ),
            models.CheckConstraint(condition=Q(cost__gte=0), name="run_cost_not_negative"),
        ]
        triggers = [pgtrigger.FSM(name="run_fsm", field="status", transitions=pairs(RUN_TRANSITIONS))]

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.status in ACTIVE_RUN


class RunEvent(models.Model):
    """One line of a run's transcript: what the CLI said, did or was told, in order.

    The table is partitioned by the run's id, which begins with the time the run was made (`agents.partitions`): ask by
    run. The database's primary key is of id and run.
    """

    class Kind(models.TextChoices):
        """What kind of line."""

        TEXT = "text"
        THINKING = "thinking"
        TOOL_USE = "tool_use"
        TOOL_RESULT = "tool_result"
        MESSAGE = "message"  # injected by the platform
        SYSTEM = "system"  # the platform about the run
        RESULT = "result"  # the CLI's own closing line
        ERROR = "error"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # Without an index of its own: the constraint's has it.
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_index=False)
    seq = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=12, choices=Kind)
    payload = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="run_event_seq_once")]
        triggers = append_only("run_event")

    def __str__(self) -> str:
        return f"{self.run_id} #{self.seq} {self.kind}"


class EgressRecord(models.Model):
    """What a run asked of one host and port outside of its sandbox, and what became of it.

    A row per decision and reason, not per request: it counts them. Bytes are those of the payload, `up` from the
    sandbox and `down` to it. Only the egress proxy writes here.
    """

    class Decision(models.TextChoices):
        """Whether it was let through."""

        ALLOWED = "allowed"
        REFUSED = "refused"
        FAILED = "failed"  # it was allowed, and could not be reached

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="egress")
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField()
    decision = models.CharField(max_length=8, choices=Decision)
    reason = models.CharField(max_length=32, blank=True, help_text="Machine-readable cause, unless it was reached.")
    requests = models.PositiveBigIntegerField(default=0)
    bytes_up = models.PositiveBigIntegerField(default=0)
    bytes_down = models.PositiveBigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["run", "-first_at", "-id"], name="egress_of_run")]
        constraints = [
            models.UniqueConstraint(fields=["run", "host", "port", "decision", "reason"], name="egress_row_once"),
            models.CheckConstraint(
                condition=Q(decision="allowed", reason="") | (~Q(decision="allowed") & ~Q(reason="")),
                name="egress_refusal_has_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} {self.decision} {self.host}:{self.port}"


class Message(models.Model):
    """A typed message between agents. `to_agent` empty and `to_role` empty = broadcast to the project.

    Ordered within a project by `seq`, in the order of commits (`agents.actions.messages`). `read_at` is of its first
    reader.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="messages")
    seq = models.PositiveBigIntegerField(help_text="Its number in the project. Some may be missing.")
    from_agent = models.ForeignKey(Agent, null=True, blank=True, on_delete=models.SET_NULL, related_name="sent")
    to_agent = models.ForeignKey(Agent, null=True, blank=True, on_delete=models.CASCADE, related_name="inbox")
    to_role = models.CharField(max_length=32, choices=Role, blank=True)
    message_type = models.CharField(max_length=16, choices=MessageType)
    payload = models.JSONField(default=dict)
    idempotency_key = models.CharField(max_length=100)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["project", "-id"], name="message_of_project"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["project", "seq"], name="message_seq_once"),
            models.UniqueConstraint(fields=["project", "idempotency_key"], name="message_sent_once"),
        ]

    def __str__(self) -> str:
        return f"{self.message_type} {self.id}"


class MessageCounter(models.Model):
    """The number of a project's newest message. Its row is locked by whoever posts, until the commit."""

    project = models.OneToOneField(Project, primary_key=True, on_delete=models.CASCADE, related_name="+")
    last_seq = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.project_id} #{self.last_seq}"


class Checkpoint(models.Model):
    """Saved state of a run: enough to go on elsewhere."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="checkpoints")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="checkpoints")
    seq = models.PositiveIntegerField()
    state = models.JSONField(default=dict)
    file_snapshot = models.CharField(max_length=200, help_text="Git ref of the workspace's snapshot.")
    resume_instructions = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="checkpoint_seq_once")]
        indexes = [models.Index(fields=["agent", "-created_at"], name="checkpoint_of_agent")]

    def __str__(self) -> str:
        return f"{self.run_id} #{self.seq}"


class Recovery(models.Model):
    """What was decided about a run that failed, by plain code: tried again by itself, or why a person is asked."""

    class Decision(models.TextChoices):
        """Tried again, or why not."""

        RETRY = "retry"
        CONTINUED = "continued"  # the recovery of an earlier run goes on: nobody's fault, and waited for longer
        SAME_AGAIN = "same_again"  # its task failed so before, and was tried again for it
        RECOVERY_ITSELF = "recovery_itself"  # the run was such a second try
        ATTEMPTS_USED = "attempts_used"  # of its task
        TASK_CAP = "task_cap"
        ACCOUNT_CAP = "account_cap"
        SWITCHED_OFF = "switched_off"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="recoveries")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="recoveries")
    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="recovery")
    reason = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64, help_text="What equal failures have in common: SHA-256.")
    decision = models.CharField(max_length=16, choices=Decision)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "recoveries"
        indexes = [models.Index(fields=["-created_at"], condition=Q(decision="retry"), name="recovery_recent")]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "fingerprint"], condition=Q(decision="retry"), name="recovery_once_per_failure"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.decision}"


class RecoverySettings(models.Model):
    """The one row of what admins changed about recoveries while the house runs; without it, all is as shipped.

    The environment is the ceiling: what it switches off stays off, and its caps are the most.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    switched_off = models.JSONField(default=list, blank=True, help_text="Reasons after which a person is asked.")
    per_task = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Empty: as in the environment.")
    per_hour = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: as in the environment.")

    class Meta:
        verbose_name_plural = "recovery settings"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="recovery_settings_one_row")]

    def __str__(self) -> str:
        return "Recovery settings"


class Pulse(models.Model):
    """The one row that says since when somebody has reached the database without a gap, and who last did so when.

    Written by every beat of a worker and every sweep (`actions.pulse`); without it, nobody ever has.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    since = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "pulse"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="pulse_one_row"),
            models.CheckConstraint(condition=Q(since__lte=F("seen_at")), name="pulse_in_order"),
        ]

    def __str__(self) -> str:
        return f"Pulse since {self.since:%Y-%m-%d %H:%M:%S}"


class MergeEntry(models.Model):
    """A change that waits in its project's merge queue, for as long as its run's supervisor waits there.

    One of them leads: its supervisor merges and verifies a batch and moves main. It does so as long as it holds its
    run; then any other of the project takes its place. `commit`: where main would have to move for this change.
    """

    class Stage(models.TextChoices):
        """How far a change is; its supervisor moves it from asked to confirmed, whoever leads the others."""

        WAITING = "waiting"
        ASKED = "asked"  # to write down where it leads, before main moves
        CONFIRMED = "confirmed"  # main may have it at any moment
        LANDED = "landed"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="merge_entries")
    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="merge_entry")
    stage = models.CharField(max_length=12, choices=Stage, default=Stage.WAITING)
    is_leading = models.BooleanField(default=False)
    commit = models.CharField(max_length=64, blank=True)
    told = models.JSONField(
        default=dict, blank=True, encoder=DjangoJSONEncoder, help_text="What was seen of the commit, or what became."
    )
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "merge entries"
        constraints = [
            models.UniqueConstraint(fields=["project"], condition=Q(is_leading=True), name="merge_one_leads"),
            models.CheckConstraint(
                condition=~Q(stage__in=["asked", "confirmed", "landed"]) | ~Q(commit=""), name="merge_asked_of_commit"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.stage}"


class Verification(models.Model):
    """What the platform itself observed of one commit: tests run and application started, in a clean sandbox."""

    class Purpose(models.TextChoices):
        """Why it was checked."""

        MERGE = "merge"
        DELIVERY = "delivery"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="verifications")
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.CASCADE, related_name="verifications")
    purpose = models.CharField(max_length=8, choices=Purpose)
    commit = models.CharField(max_length=40)
    tree = models.CharField(max_length=40)
    passed = models.BooleanField()
    reason = models.CharField(max_length=64)
    detail = models.TextField(blank=True)
    tests_run = models.PositiveIntegerField(default=0)
    test_output = models.TextField(blank=True)
    test_output_sha256 = models.CharField(max_length=64, blank=True)
    start_output = models.TextField(blank=True)
    duration_s = models.DecimalField(max_digits=8, decimal_places=3)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["project", "-created_at"], name="verification_of_project")]

    def __str__(self) -> str:
        return f"{self.commit[:8]} {self.reason}"
