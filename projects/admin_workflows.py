"""Workflows in Django's admin: shown as they are; executions are paused, resumed and cancelled by their actions."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from projects import models
from projects.actions import workflows
from projects.actors import Actor
from projects.admin_tools import ShownAdmin


class NumberedAdmin(ShownAdmin):
    """Rows whose key is a number: the search finds it, or all rows of an execution by its id."""

    of_execution = True

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term.isascii() and term.isdigit() and len(term) < 18:
            return queryset.filter(pk=int(term)), False
        try:
            wanted = UUID(term)
        except ValueError:
            return self._with_words(queryset, term.split()), False
        return queryset.filter(execution_id=wanted) if self.of_execution else queryset.none(), False


@admin.register(models.Workflow)
class WorkflowAdmin(ShownAdmin):
    list_display = ("key", "version", "name", "is_shipped", "created_by", "created_at")
    list_filter = ("is_shipped", "created_at")
    date_hierarchy = "created_at"
    text_fields = ("key", "name", "description")
    search_help_text = "Key, name or id"


@admin.register(models.Execution)
class ExecutionAdmin(ShownAdmin):
    list_display = ("id", "workflow", "project", "status", "open_count", "started_by", "created_at", "finished_at")
    list_filter = ("status", "created_at")
    list_select_related = ("workflow", "project")
    date_hierarchy = "created_at"
    text_fields = ("key", "workflow__key", "project__name")
    uuid_fields = ("workflow_id", "project_id")
    search_help_text = "Key, workflow, project or id"
    actions = ("pause", "resume", "cancel")

    @admin.action(description="Pause", permissions=["steer"])
    def pause(self, request: HttpRequest, queryset: QuerySet[models.Execution]) -> None:
        self.do_each(
            request,
            queryset.select_related("workflow"),
            lambda row, by, now: workflows.pause_execution(row, by=by, now=now),
        )

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, queryset: QuerySet[models.Execution]) -> None:
        self.do_each(
            request,
            queryset.select_related("workflow"),
            lambda row, by, now: workflows.resume_execution(row, by=by, now=now),
        )

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[models.Execution]) -> None:
        self.do_each(request, queryset.select_related("workflow"), _cancel)


def _cancel(row: models.Execution, by: Actor, now: datetime) -> None:
    workflows.cancel_execution(row, reason=f"By {by.name}, in the administration.", by=by, now=now)


@admin.register(models.ExecutionNode)
class ExecutionNodeAdmin(NumberedAdmin):
    list_display = ("key", "execution", "kind", "status", "attempts", "started_at", "finished_at")
    list_filter = ("status", "kind")
    list_select_related = ("execution",)
    text_fields = ("key", "error")
    search_help_text = "Key, number, or id of the execution"


@admin.register(models.ExecutionLog)
class ExecutionLogAdmin(NumberedAdmin):
    list_display = ("at", "execution_id", "position", "event", "detail")
    list_filter = ("event",)
    text_fields = ("detail",)
    search_help_text = "Number, or id of the execution"


@admin.register(models.Runner)
class RunnerAdmin(NumberedAdmin):
    of_execution = False
    list_display = ("id", "name", "started_at")
    list_filter = ("started_at",)
    text_fields = ("name",)
    search_help_text = "Number or name"
