"""Money in Django's admin: prices are added, limits are changed, everything else is only shown."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone

from billing import actions
from billing.models import Budget, LedgerEntry, Price, Reservation
from projects.actions import settings
from projects.actors import Actor
from projects.admin_tools import SettingsAdmin, ShownAdmin, actor_of


@admin.register(Price)
class PriceAdmin(SettingsAdmin):
    """A price counts from its date on. A new one is added; those that something was paid by never change."""

    list_display = (
        "model",
        "valid_from",
        "input_per_mtok",
        "output_per_mtok",
        "cache_write_per_mtok",
        "long_cache_write_per_mtok",
        "cache_read_per_mtok",
        "currency",
    )
    list_filter = ("currency",)
    date_hierarchy = "valid_from"
    ordering = ("model", "-valid_from")
    text_fields = ("model",)
    hidden = ("id",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super(ShownAdmin, self).has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else self.columns(obj)

    def save_model(self, request: HttpRequest, obj: Price, form: "ModelForm[Price]", change: bool) -> None:
        settings.add_row(obj, by=actor_of(request), now=timezone.now())


@admin.register(Budget)
class BudgetAdmin(SettingsAdmin):
    list_display = ("scope", "project", "limit", "reserved", "settled", "currency", "warned_percent", "created_at")
    list_filter = ("scope", "warned_percent", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("project__name",)
    uuid_fields = ("scope_id", "project_id")
    editable = ("limit",)

    def has_change_permission(self, request: HttpRequest, obj: Budget | None = None) -> bool:
        """A run's limit is its squad's business and not changed by hand."""
        return super().has_change_permission(request, obj) and (obj is None or obj.scope != Budget.Scope.RUN)

    def save_settings(self, row: Budget, changes: dict[str, Any], *, by: Actor, now: datetime) -> None:
        actions.set_limit(row, changes["limit"], by=by, now=now)


@admin.register(Reservation)
class ReservationAdmin(ShownAdmin):
    list_display = ("id", "project", "model", "amount", "status", "created_at", "expires_at")
    list_filter = ("status", "model", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("model", "project__name")
    uuid_fields = ("project_id", "run_id", "agent_id")


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ShownAdmin):
    list_display = ("created_at", "kind", "amount", "currency", "model", "input_tokens", "output_tokens", "project_id")
    list_filter = ("kind", "created_at")
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-id")
    text_fields = ("model", "note")
    uuid_fields = ("project_id", "run_id", "agent_id", "request_id")
    search_help_text = "Model, note, or id of project, run, agent or request"
