"""Projects in Django's admin: all of it is shown, and changed only by the actions of the lifecycle."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import CharField, ModelForm, PasswordInput
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from pydantic import SecretStr

from projects import models
from projects.actions import approvals, projects, tasks
from projects.actions.approvals import Decision
from projects.actions.secrets import MAX_CHARS, set_secret
from projects.actors import Actor
from projects.admin_records import AuditLogAdmin as AuditLogAdmin
from projects.admin_tools import SettingsAdmin, ShownAdmin, ShownInline, actor_of
from projects.admin_workflows import ExecutionAdmin as ExecutionAdmin
from projects.briefs import clean_name
from projects.errors import DomainError, IllegalTransition
from projects.states import OPEN_APPROVAL, ApprovalKind, PlanStatus


class RequirementInline(ShownInline):
    model = models.Requirement
    fields = ("key", "title", "acceptance_criteria")


class MemberInline(ShownInline):
    model = models.SquadMember
    fields = (
        *("role", "specialisation", "count", "tool", "model", "fallback_model"),
        *("max_turns", "max_minutes", "max_cost"),
    )


class DependencyInline(ShownInline):
    model = models.TaskDependency
    fk_name = "task"
    fields = ("depends_on",)
    related = ("depends_on",)
    verbose_name_plural = "depends on"


class DependentInline(ShownInline):
    model = models.TaskDependency
    fk_name = "depends_on"
    fields = ("task",)
    related = ("task",)
    verbose_name_plural = "waited for by"


@admin.register(models.Project)
class ProjectAdmin(SettingsAdmin):
    list_display = ("name", "client_name", "status", "budget_spent", "budget_limit", "currency", "created_at")
    list_filter = ("status", "created_at")
    date_hierarchy = "created_at"
    text_fields = ("name", "client_name", "description")
    search_help_text = "Name, client, brief or id"
    editable = ("name", "client_name")
    inlines = (RequirementInline,)
    actions = ("pause", "resume", "cancel", "archive", "mark_sensitive", "mark_normal")

    def project_of(self, row: models.Project) -> Any:
        return row.pk

    def save_settings(self, row: models.Project, changes: dict[str, Any], *, by: Actor, now: datetime) -> None:
        cleaned = {name: clean_name(value) for name, value in changes.items()}
        if not cleaned.get("name", row.name):
            raise DomainError("A project needs a name.")
        if "name" in cleaned:
            cleaned["config"] = row.config | {"named_by_person": True}
        super().save_settings(row, cleaned, by=by, now=now)

    @admin.action(description="Pause", permissions=["steer"])
    def pause(self, request: HttpRequest, queryset: QuerySet[models.Project]) -> None:
        self.do_each(
            request, queryset, lambda row, by, now: projects.pause_project(row, reason=_said(by), by=by, now=now)
        )

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, queryset: QuerySet[models.Project]) -> None:
        self.do_each(request, queryset, lambda row, by, now: projects.resume_project(row, by=by, now=now))

    @admin.action(description="Cancel: end all work on it", permissions=["steer"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[models.Project]) -> None:
        self.do_each(
            request, queryset, lambda row, by, now: projects.cancel_project(row, reason=_said(by), by=by, now=now)
        )

    @admin.action(description="Archive", permissions=["steer"])
    def archive(self, request: HttpRequest, queryset: QuerySet[models.Project]) -> None:
        self.do_each(request, queryset, lambda row, by, now: projects.archive_project(row, by=by, now=now))

    @admin.action(description="Mark as sensitive: runs on trusted workers only", permissions=["steer"])
    def mark_sensitive(self, request: HttpRequest, queryset: QuerySet[models.Project]) -> None:
        self._set_privacy(request, queryset, "sensitive")

    @admin.action(description="Mark as not sensitive", permissions=["steer"])
    def mark_normal(self, request: HttpRequest, queryset: QuerySet[models.Project]) -> None:
        self._set_privacy(request, queryset, "normal")

    def _set_privacy(self, request: HttpRequest, queryset: QuerySet[models.Project], privacy: str) -> None:
        def verb(row: models.Project, by: Actor, now: datetime) -> None:
            super(ProjectAdmin, self).save_settings(row, {"config": row.config | {"privacy": privacy}}, by=by, now=now)

        self.do_each(request, queryset, verb)


@admin.register(models.Client)
class ClientAdmin(ShownAdmin):
    """A client follows from its projects' `client_name`; its limit is a row of billing's budgets."""

    list_display = ("name", "created_at")
    date_hierarchy = "created_at"
    ordering = ("name",)
    text_fields = ("name",)
    search_help_text = "Name or id"


class SecretAddForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """A secret to keep; the value is typed and never sent back."""

    plain = CharField(label="Value", max_length=MAX_CHARS, widget=PasswordInput(attrs={"autocomplete": "off"}))

    class Meta:
        model = models.Secret
        fields = ("project", "name")


@admin.register(models.Secret)
class SecretAdmin(SettingsAdmin):
    """A secret goes in and does not come out: it is set anew under its name, or removed in the portal."""

    form = SecretAddForm
    list_display = ("name", "project", "last_four", "changed_at", "changed_by")
    list_filter = ("name",)
    list_select_related = ("project", "changed_by")
    date_hierarchy = "changed_at"
    ordering = ("name",)
    text_fields = ("name", "project__name")
    uuid_fields = ("project_id",)
    search_help_text = "Name, project or id"
    hidden = ("value",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.Secret]:
        return super().get_queryset(request).defer("value")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super(ShownAdmin, self).has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        # The page of one that is there has nothing to type.
        return super().get_form(request, obj, change, **({"form": ModelForm} if obj else {}) | kwargs)

    def columns(self, obj: Any) -> list[str]:
        return ["project", "name", "plain"] if obj is None else super().columns(obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else self.columns(obj)

    @sensitive_variables()
    def save_model(self, request: HttpRequest, obj: models.Secret, form: "ModelForm[Any]", change: bool) -> None:
        value = SecretStr(form.cleaned_data["plain"])
        kept = set_secret(obj.project, obj.name, value, by=actor_of(request), now=timezone.now())
        obj.pk = kept.pk

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return sensitive_post_parameters("plain")(super().changeform_view)(request, *args, **kwargs)


def _said(by: Actor) -> str:
    return f"By {by.name}, in the administration."


@admin.register(models.Squad)
class SquadAdmin(SettingsAdmin):
    list_display = ("project", "max_concurrent_runs", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("project__name",)
    uuid_fields = ("project_id",)
    search_help_text = "Name or id of the project"
    editable = ("max_concurrent_runs",)
    inlines = (MemberInline,)


@admin.register(models.SquadMember)
class SquadMemberAdmin(SettingsAdmin):
    list_display = ("__str__", "project", "tool", "model", "max_turns", "max_minutes", "max_cost")
    list_filter = ("role", "model")
    list_select_related = ("squad__project",)
    text_fields = ("squad__project__name", "model")
    uuid_fields = ("squad_id", "squad__project_id", "prompt_version_id")
    search_help_text = "Name or id of the project, or model"
    editable = ("model", "fallback_model", "prompt_version_id", "max_turns", "max_minutes", "max_cost")

    @admin.display(ordering="squad__project__name")
    def project(self, row: models.SquadMember) -> models.Project:
        """The project of its squad."""
        return row.squad.project

    def project_of(self, row: models.SquadMember) -> Any:
        return row.squad.project_id


@admin.register(models.Requirement)
class RequirementAdmin(ShownAdmin):
    list_display = ("key", "title", "project", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("title", "body", "project__name")
    uuid_fields = ("project_id",)


@admin.register(models.Plan)
class PlanAdmin(ShownAdmin):
    list_display = ("__str__", "project", "status", "created_at", "decided_at")
    list_filter = ("status", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("summary", "project__name")
    uuid_fields = ("project_id",)
    # Rejecting needs words, which go to the architect: that is done in the inbox.
    actions = ("approve",)

    @admin.action(description="Approve: the first demo is built", permissions=["steer"])
    def approve(self, request: HttpRequest, queryset: QuerySet[models.Plan]) -> None:
        self.do_each(request, queryset.select_related("project"), _approve_plan)


def _approve_plan(plan: models.Plan, by: Actor, now: datetime) -> None:
    asked = models.Approval.objects.filter(kind=ApprovalKind.PLAN, subject_id=plan.pk, status__in=OPEN_APPROVAL).first()
    if asked is None:
        raise IllegalTransition(f"It is {PlanStatus(plan.status).label.lower()}: there is nothing to decide about it.")
    approvals.decide(asked.pk, Decision(approvals.APPROVE.value), by=by, now=now)


@admin.register(models.Task)
class TaskAdmin(ShownAdmin):
    list_display = ("key", "title", "project", "kind", "role", "status", "reason", "attempts", "created_at")
    list_filter = ("status", "kind", "role", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("key", "title", "project__name", "reason")
    uuid_fields = ("project_id", "plan_id", "agent_id")
    inlines = (DependencyInline, DependentInline)
    actions = ("retry", "give_up")

    @admin.action(description="Try again", permissions=["steer"])
    def retry(self, request: HttpRequest, queryset: QuerySet[models.Task]) -> None:
        self.do_each(request, queryset.select_related("project"), _retry)

    @admin.action(description="Give up", permissions=["steer"])
    def give_up(self, request: HttpRequest, queryset: QuerySet[models.Task]) -> None:
        self.do_each(request, queryset.select_related("project"), _give_up)


def _retry(task: models.Task, by: Actor, now: datetime) -> None:
    if not _decide(task, "retry", by=by, now=now):
        tasks.unblock_task(task, {}, by=by, now=now)


def _give_up(task: models.Task, by: Actor, now: datetime) -> None:
    if not _decide(task, "give_up", by=by, now=now):
        tasks.fail_task(task, reason="given_up", detail=_said(by), by=by, now=now)


def _decide(task: models.Task, option: str, *, by: Actor, now: datetime) -> bool:
    """Answer the question that is open about a task, where one is: else it would stay in the inbox."""
    asked = task.approvals.filter(status__in=OPEN_APPROVAL).first()
    if asked is None:
        return False
    if asked.kind != ApprovalKind.BLOCKED_TASK:
        raise IllegalTransition("It waits for answers. Give them in the inbox.")
    approvals.decide(asked.pk, Decision(option), by=by, now=now)
    return True


@admin.register(models.TaskDependency)
class TaskDependencyAdmin(ShownAdmin):
    list_display = ("task", "depends_on")
    list_filter = ("task__status", "depends_on__status")
    list_select_related = ("task", "depends_on")
    text_fields = ("task__key", "task__title", "task__project__name")
    uuid_fields = ("task_id", "depends_on_id", "task__project_id")


@admin.register(models.Approval)
class ApprovalAdmin(ShownAdmin):
    list_display = ("title", "project", "kind", "status", "deadline_at", "decided_by", "created_at")
    list_filter = ("status", "kind", "created_at")
    list_select_related = ("project", "decided_by")
    date_hierarchy = "created_at"
    text_fields = ("title", "body", "comment", "project__name")
    uuid_fields = ("project_id", "task_id", "subject_id")
    actions = ("take_recommended",)

    @admin.action(description="Decide as recommended", permissions=["steer"])
    def take_recommended(self, request: HttpRequest, queryset: QuerySet[models.Approval]) -> None:
        self.do_each(
            request,
            queryset,
            lambda row, by, now: approvals.decide(row.pk, Decision(row.recommended), by=by, now=now),
        )


@admin.register(models.Correction)
class CorrectionAdmin(ShownAdmin):
    list_display = ("__str__", "project", "approval", "created_at")
    list_select_related = ("project", "approval")
    date_hierarchy = "created_at"
    text_fields = ("text", "project__name")
    uuid_fields = ("project_id", "approval_id")


@admin.register(models.ChatMessage)
class ChatMessageAdmin(ShownAdmin):
    list_display = ("__str__", "author_name", "author", "project", "created_at")
    list_filter = ("author", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("body", "author_name", "project__name")
    uuid_fields = ("project_id", "agent_id", "approval_id")


@admin.register(models.Notification)
class NotificationAdmin(ShownAdmin):
    list_display = ("title", "level", "project", "created_at", "read_at")
    list_filter = ("level", ("read_at", admin.EmptyFieldListFilter), "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("title", "message", "project__name")
    uuid_fields = ("project_id",)
