"""Demos in Django's admin: all is shown, and only what the lifecycle allows is changed, by the same actions."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from demos import actions
from demos.addresses import new_token
from demos.errors import Reason
from demos.models import Demo, DemoFeedback
from projects.actors import Actor
from projects.errors import DomainError

EXTENSION_DAYS = 7
Verb = Callable[[Demo, Actor, datetime], None]


class ReadOnly:
    """Rows are made and changed by actions alone."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class FeedbackInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # no generic at run time
    model = DemoFeedback
    fields = ("created_at", "user", "body")
    ordering = ("created_at",)


@admin.register(Demo)
class DemoAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # no generic at run time
    list_display = ("__str__", "project", "status", "reason", "ready_at", "expires_at", "revoked_at")
    list_filter = ("status", "reason", "created_at")
    list_select_related = ("project",)
    search_fields = ("project__name", "project__client_name", "commit", "summary", "feedback")
    search_help_text = "Project, client, commit, summary or feedback"
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    # whoever has the token has the preview: not in lists, which are often shared on a screen
    exclude = ("token",)
    readonly_fields = tuple(field.name for field in Demo._meta.fields if field.name != "token")
    inlines = (FeedbackInline,)
    actions = ("revoke", "readdress", "expire", "extend")

    @admin.action(description="Close the address", permissions=["steer"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self._each(request, queryset, lambda demo, by, now: actions.revoke_demo(demo, by=by, now=now))

    @admin.action(description="Give a new address", permissions=["steer"])
    def readdress(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self._each(
            request,
            queryset,
            lambda demo, by, now: actions.revoke_demo(demo, new_token=new_token(), by=by, now=now),
        )

    @admin.action(description="End without a decision", permissions=["steer"])
    def expire(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self._each(
            request,
            queryset,
            lambda demo, by, now: actions.expire_demo(demo, reason=Reason.CLOSED, by=by, now=now),
        )

    @admin.action(description=f"Extend by {EXTENSION_DAYS} days", permissions=["steer"])
    def extend(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self._each(
            request,
            queryset,
            lambda demo, by, now: actions.extend_demo(demo, days=EXTENSION_DAYS, by=by, now=now),
        )

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Whether the user may call the lifecycle; changing fields is nobody's."""
        return request.user.has_perm("demos.change_demo")

    def _each(self, request: HttpRequest, demos: QuerySet[Demo], verb: Verb) -> None:
        """Do it to each demo apart, so that one refusal does not undo the others."""
        assert request.user.is_authenticated
        by = Actor.person(request.user)
        done = 0
        for demo in demos.select_related("project"):
            try:
                verb(demo, by, timezone.now())
            except DomainError as refusal:
                self.message_user(request, f"{demo.project}, {demo}: {refusal}", messages.ERROR)
            else:
                done += 1
        if done:
            self.message_user(request, f"Done for {done}.", messages.SUCCESS)
