"""Runs for programs."""

from typing import ClassVar
from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.scopes import Scope
from agents.models import Run
from projects.api.views import ProjectsApi


class RunSerializer(serializers.ModelSerializer[Run]):
    """One attempt of one agent at one task."""

    class Meta:
        model = Run
        fields = (
            "id",
            "task_id",
            "agent_id",
            "attempt",
            "status",
            "reason",
            "runtime",
            "model",
            "cost",
            "commit",
            "created_at",
            "started_at",
            "finished_at",
        )


class Runs(ProjectsApi):
    """The runs of a project."""

    scopes: ClassVar = {"GET": Scope.PROJECTS_READ}
    serializer_class = RunSerializer

    def get(self, request: Request, project_id: UUID) -> Response:
        """List the runs of a project, newest first."""
        return self.page(Run.objects.filter(project=self.project()))
