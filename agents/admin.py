"""Agents, runs and what they left behind in Django's admin. Supervisors and sweeps move them on; people stop runs and
take workers out of use, by the same actions as elsewhere."""

from datetime import datetime

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from agents.actions import runs, workers
from agents.models import (
    Agent,
    Checkpoint,
    EgressRecord,
    MergeEntry,
    Message,
    MessageCounter,
    Pulse,
    Recovery,
    RecoverySettings,
    Run,
    RunEvent,
    Specialisation,
    Verification,
    Worker,
)
from projects.actors import Actor
from projects.admin_tools import ShownAdmin, ShownInline


class CheckpointInline(ShownInline):
    model = Checkpoint
    fields = ("seq", "file_snapshot", "resume_instructions", "created_at")


class VerificationInline(ShownInline):
    model = Verification
    fields = ("purpose", "commit", "passed", "reason", "tests_run", "created_at")


@admin.register(Worker)
class WorkerAdmin(ShownAdmin):
    list_display = ("name", "status", "runtime", "capacity", "queue", "heartbeat_at", "registered_at")
    list_filter = ("status", "runtime")
    date_hierarchy = "registered_at"
    ordering = ("name",)
    text_fields = ("name", "queue")
    actions = ("cordon", "drain", "uncordon")

    @admin.action(description="Cordon: it takes no new runs", permissions=["steer"])
    def cordon(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        self.do_each(request, queryset, lambda row, by, now: workers.cordon_worker(row, by=by, now=now))

    @admin.action(description="Drain: others go on with its runs", permissions=["steer"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        def verb(row: Worker, by: Actor, now: datetime) -> None:
            count = workers.drain_worker(row, by=by, now=now)
            self.message_user(
                request, f"{row.name} hands over {count} run{'' if count == 1 else 's'}.", messages.SUCCESS
            )

        self.do_each(request, queryset, verb)

    @admin.action(description="Uncordon: it takes runs again", permissions=["steer"])
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        self.do_each(request, queryset, lambda row, by, now: workers.uncordon_worker(row, by=by, now=now))


@admin.register(Specialisation)
class SpecialisationAdmin(ShownAdmin):
    list_display = ("name", "key", "base_role", "created_at")
    list_filter = ("base_role",)
    text_fields = ("name", "key")


@admin.register(Agent)
class AgentAdmin(ShownAdmin):
    list_display = ("name", "project", "agent_type", "status", "tokens_used", "last_heartbeat", "created_at")
    list_filter = ("status", "agent_type", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("name", "project__name")
    uuid_fields = ("project_id", "member_id")


@admin.register(Run)
class RunAdmin(ShownAdmin):
    list_display = ("id", "project", "task", "agent", "attempt", "status", "reason", "cost", "created_at")
    list_filter = ("status", "runtime", "created_at")
    list_select_related = ("project", "task", "agent")
    date_hierarchy = "created_at"
    # Whoever has the token is the agent; its hash is nobody's business either.
    hidden = ("token_hash",)
    text_fields = ("project__name", "task__key", "task__title", "agent__name", "reason", "commit")
    uuid_fields = ("project_id", "task_id", "agent_id", "worker_id", "prompt_version_id")
    inlines = (CheckpointInline, VerificationInline)
    actions = ("stop",)

    @admin.action(description="Stop: the task is tried again", permissions=["steer"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self.do_each(request, queryset, lambda row, by, now: runs.stop_run(row, by=by, now=now))


@admin.register(RunEvent)
class RunEventAdmin(ShownAdmin):
    # No date hierarchy: the largest table has no index by time, its keys are in order of time.
    list_display = ("run_id", "seq", "kind", "created_at")
    list_filter = ("kind",)
    uuid_fields = ("run_id", "run__project_id", "run__agent_id")
    search_help_text = "Id of run, project or agent"


@admin.register(EgressRecord)
class EgressRecordAdmin(ShownAdmin):
    # No date hierarchy, as with events: it is read by run.
    list_display = ("run_id", "host", "port", "decision", "reason", "requests", "bytes_up", "bytes_down", "last_at")
    list_filter = ("decision",)
    uuid_fields = ("run_id", "run__project_id", "run__agent_id")
    search_help_text = "Id of run, project or agent"


@admin.register(Message)
class MessageAdmin(ShownAdmin):
    list_display = ("message_type", "project", "from_agent", "to_agent", "to_role", "created_at", "read_at")
    list_filter = ("message_type", "to_role", ("read_at", admin.EmptyFieldListFilter))
    list_select_related = ("project", "from_agent", "to_agent")
    date_hierarchy = "created_at"
    text_fields = ("project__name", "from_agent__name", "to_agent__name", "idempotency_key")
    uuid_fields = ("project_id", "from_agent_id", "to_agent_id")


@admin.register(MessageCounter)
class MessageCounterAdmin(ShownAdmin):
    list_display = ("project", "last_seq")
    list_filter = ("project__status",)
    list_select_related = ("project",)
    text_fields = ("project__name",)
    uuid_fields = ("project_id",)


@admin.register(Checkpoint)
class CheckpointAdmin(ShownAdmin):
    list_display = ("run_id", "seq", "agent", "file_snapshot", "created_at")
    list_select_related = ("agent",)
    date_hierarchy = "created_at"
    text_fields = ("agent__name", "file_snapshot", "resume_instructions")
    uuid_fields = ("run_id", "agent_id")


@admin.register(Recovery)
class RecoveryAdmin(ShownAdmin):
    list_display = ("reason", "decision", "project", "task", "run_id", "created_at")
    list_filter = ("decision", "reason")
    list_select_related = ("project", "task")
    date_hierarchy = "created_at"
    text_fields = ("project__name", "task__key", "fingerprint")
    uuid_fields = ("project_id", "task_id", "run_id")


@admin.register(RecoverySettings)
class RecoverySettingsAdmin(ShownAdmin):
    """Changed in the portal, under Settings, Recovery."""

    list_display = ("__str__", "switched_off", "per_task", "per_hour")
    list_filter = (("per_task", admin.EmptyFieldListFilter), ("per_hour", admin.EmptyFieldListFilter))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RecoverySettings], search_term: str
    ) -> tuple[QuerySet[RecoverySettings], bool]:
        return queryset, False  # there is one


@admin.register(Pulse)
class PulseAdmin(ShownAdmin):
    list_display = ("__str__", "since", "seen_at")
    list_filter = ("since",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Pulse], search_term: str
    ) -> tuple[QuerySet[Pulse], bool]:
        return queryset, False  # there is one


@admin.register(MergeEntry)
class MergeEntryAdmin(ShownAdmin):
    list_display = ("run_id", "project", "stage", "is_leading", "commit", "created_at")
    list_filter = ("stage", "is_leading")
    list_select_related = ("project",)
    text_fields = ("project__name", "commit")
    uuid_fields = ("project_id", "run_id")


@admin.register(Verification)
class VerificationAdmin(ShownAdmin):
    list_display = ("commit", "project", "purpose", "passed", "reason", "tests_run", "duration_s", "created_at")
    list_filter = ("passed", "purpose", "reason", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("commit", "tree", "reason", "project__name")
    uuid_fields = ("project_id", "run_id")
