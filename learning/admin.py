"""Prompts and outcomes in Django's admin: a text is added as a new version, and versions are made active."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone

from learning import actions
from learning.models import Outcome, PromptVersion
from projects.admin_tools import SettingsAdmin, ShownAdmin, actor_of
from projects.roles import Role


@admin.register(PromptVersion)
class PromptVersionAdmin(SettingsAdmin):
    list_display = ("__str__", "agent_type", "status", "origin", "success_rate", "created_at")
    list_filter = ("agent_type", "status", "origin", "created_at")
    date_hierarchy = "created_at"
    ordering = ("agent_type", "-version")
    text_fields = ("prompt_text",)
    actions = ("activate", "retire")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super(ShownAdmin, self).has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Outcomes belong to what runs were told: another text is another version."""
        return False

    def columns(self, obj: Any) -> list[str]:
        return ["agent_type", "prompt_text"] if obj is None else super().columns(obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else self.columns(obj)

    def save_model(self, request: HttpRequest, obj: PromptVersion, form: "ModelForm[Any]", change: bool) -> None:
        role = Role(form.cleaned_data["agent_type"])
        made = actions.write_prompt(role, form.cleaned_data["prompt_text"], by=actor_of(request), now=timezone.now())
        obj.pk, obj.version = made.pk, made.version

    @admin.action(description="Make active: new runs get it", permissions=["steer"])
    def activate(self, request: HttpRequest, queryset: QuerySet[PromptVersion]) -> None:
        self.do_each(request, queryset, lambda row, by, now: actions.activate_prompt(row, by=by, now=now))

    @admin.action(description="Retire", permissions=["steer"])
    def retire(self, request: HttpRequest, queryset: QuerySet[PromptVersion]) -> None:
        self.do_each(request, queryset, lambda row, by, now: actions.retire_prompt(row, by=by, now=now))


@admin.register(Outcome)
class OutcomeAdmin(ShownAdmin):
    list_display = ("run_id", "prompt_version", "succeeded", "reason", "cost", "duration_s", "turns", "created_at")
    list_filter = ("succeeded", "prompt_version__agent_type", "created_at")
    list_select_related = ("prompt_version",)
    date_hierarchy = "created_at"
    text_fields = ("reason", "prompt_version__agent_type")
    uuid_fields = ("run_id", "project_id", "prompt_version_id")
