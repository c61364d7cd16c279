"""Demos in Django's admin: all is shown, and only what the lifecycle allows is changed, by the same actions."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from demos import actions
from demos.addresses import new_token
from demos.errors import Reason
from demos.models import Demo, DemoFeedback
from projects.admin_tools import ShownAdmin, ShownInline
from projects.models import Project

EXTENSION_DAYS = 7


class FeedbackInline(ShownInline):
    model = DemoFeedback
    fields = ("created_at", "user", "body")
    ordering = ("created_at",)
    related = ("user",)


@admin.register(Demo)
class DemoAdmin(ShownAdmin):
    list_display = ("__str__", "project", "status", "reason", "ready_at", "expires_at", "revoked_at")
    list_filter = ("status", "reason", "created_at")
    list_select_related = ("project",)
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    text_fields = ("project__name", "project__client_name", "commit", "summary", "feedback")
    uuid_fields = ("project_id",)
    search_help_text = "Project, client, commit, summary, feedback or id"
    # whoever has the token has the preview: not in lists, which are often shared on a screen
    hidden = ("token",)
    inlines = (FeedbackInline,)
    actions = ("revoke", "readdress", "expire", "extend")

    @admin.action(description="Close the address", permissions=["steer"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self.do_each(request, queryset, lambda demo, by, now: actions.revoke_demo(demo, by=by, now=now))

    @admin.action(description="Give a new address", permissions=["steer"])
    def readdress(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self.do_each(
            request,
            queryset,
            lambda demo, by, now: actions.revoke_demo(demo, new_token=new_token(), by=by, now=now),
        )

    @admin.action(description="End without a decision", permissions=["steer"])
    def expire(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self.do_each(
            request,
            queryset.select_related("project"),
            lambda demo, by, now: actions.expire_demo(demo, reason=Reason.CLOSED, by=by, now=now),
        )

    @admin.action(description=f"Extend by {EXTENSION_DAYS} days", permissions=["steer"])
    def extend(self, request: HttpRequest, queryset: QuerySet[Demo]) -> None:
        self.do_each(
            request,
            queryset.select_related("project"),
            lambda demo, by, now: actions.extend_demo(demo, days=EXTENSION_DAYS, by=by, now=now),
        )


@admin.register(DemoFeedback)
class DemoFeedbackAdmin(ShownAdmin):
    list_display = ("__str__", "demo", "project", "user", "created_at")
    list_filter = ("demo__status", "created_at")
    list_select_related = ("demo__project", "user")
    date_hierarchy = "created_at"
    text_fields = ("body", "demo__project__name")
    uuid_fields = ("demo_id", "demo__project_id")
    search_help_text = "What was said, project, or id of it, of the demo or of the remark"

    @admin.display(ordering="demo__project__name")
    def project(self, row: DemoFeedback) -> Project:
        """The project of its demo."""
        return row.demo.project
