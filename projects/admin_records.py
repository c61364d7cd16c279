"""What is recorded and sent, in Django's admin: the audit log, webhooks and their deliveries.

Shown only, but that webhooks are enabled and disabled by their actions.
"""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from projects import models
from projects.actions import webhooks
from projects.actors import ActorKind
from projects.admin_tools import ShownAdmin, filter_of
from projects.events import EVENT_TYPES
from projects.models.audit import ACCOUNT_CHAIN
from projects.webhooks.messages import SENT_TYPES


@admin.register(models.WebhookEndpoint)
class WebhookEndpointAdmin(ShownAdmin):
    """Added and changed in the portal, where the secret is shown once."""

    list_display = ("host", "description", "project", "status", "failing_since", "created_at")
    list_filter = ("status",)
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    text_fields = ("url", "description", "project__name")
    uuid_fields = ("project_id",)
    search_help_text = "Address, description, project or id"
    hidden = ("secret", "old_secret")
    actions = ("enable", "disable")

    @admin.action(description="Enable: send what happens from now on", permissions=["steer"])
    def enable(self, request: HttpRequest, queryset: QuerySet[models.WebhookEndpoint]) -> None:
        self.do_each(request, queryset, lambda row, by, now: webhooks.enable_webhook(row, by=by, now=now))

    @admin.action(description="Disable: send nothing any more", permissions=["steer"])
    def disable(self, request: HttpRequest, queryset: QuerySet[models.WebhookEndpoint]) -> None:
        self.do_each(request, queryset, lambda row, by, now: webhooks.disable_webhook(row, by=by, now=now))

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.WebhookEndpoint]:
        return super().get_queryset(request).defer("secret", "old_secret")


@admin.register(models.WebhookDelivery)
class WebhookDeliveryAdmin(ShownAdmin):
    list_display = ("__str__", "endpoint", "status", "attempts", "response_status", "next_attempt_at", "created_at")
    list_filter = ("status", filter_of("event_type", SENT_TYPES))
    list_select_related = ("endpoint",)
    date_hierarchy = "created_at"
    text_fields = ("event_type", "problem")
    uuid_fields = ("endpoint_id", "event_id")
    search_help_text = "Type, problem, or id of endpoint or event"


class WhoseChain(admin.SimpleListFilter):
    """The account's chain, or those of projects."""

    title = "chain"
    parameter_name = "whose"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(ACCOUNT_CHAIN, "the account's"), ("projects", "projects'")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case None:
                return queryset
            case value if value == ACCOUNT_CHAIN:
                return queryset.filter(pk=ACCOUNT_CHAIN)
            case _:
                return queryset.exclude(pk=ACCOUNT_CHAIN)


class ChainKeyAdmin(ShownAdmin):
    """Rows whose key is a chain's: a project's id, or “account”."""

    search_help_text = "Id of the project, or “account”"
    list_filter = (WhoseChain,)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return self._with_words(queryset, search_term.split()), False


@admin.register(models.AuditChain)
class AuditChainAdmin(ChainKeyAdmin):
    list_display = ("key", "last_seq", "last_hash")
    text_fields = ("key",)


@admin.register(models.WebhookCursor)
class WebhookCursorAdmin(ChainKeyAdmin):
    list_display = ("chain", "seq")
    text_fields = ("chain",)


@admin.register(models.AuditLog)
class AuditLogAdmin(ShownAdmin):
    list_display = ("timestamp", "action", "actor_name", "actor_kind", "object_type", "object_id", "chain", "seq")
    list_filter = (filter_of("actor_kind", ActorKind), filter_of("event_type", EVENT_TYPES), "timestamp")
    date_hierarchy = "timestamp"
    ordering = ("-timestamp", "-id")
    text_fields = ("action", "actor_name", "object_id")
    uuid_fields = ("project_id", "agent_id")
    search_help_text = "Action, actor, object, or id of project or agent"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, _ = super().get_search_results(request, queryset, search_term)
        objects = queryset.filter(object_id=search_term.strip())
        return found | objects, False
