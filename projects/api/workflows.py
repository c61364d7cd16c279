"""Workflows for programs: listed, out as JSON or YAML, and in."""

from typing import Any, ClassVar

from django.http import Http404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from projects import permissions
from projects.actions.workflow_files import import_workflow
from projects.actions.workflows import document_of
from projects.api.views import READ, WRITE, ProjectsApi
from projects.models import Workflow
from projects.workflows.documents import MAX_BYTES, Document, as_json, as_yaml

YAML = "application/yaml"


class WorkflowSerializer(serializers.ModelSerializer[Workflow]):
    """A version of a workflow, without its nodes and edges."""

    class Meta:
        model = Workflow
        fields = ("id", "key", "version", "name", "description", "is_shipped", "created_by", "created_at")


class VersionSerializer(serializers.Serializer[None]):
    """A version; the newest, if none is named."""

    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False, default=None)


class JsonText(BaseParser):
    """A body as it is: what it says is read by `import_workflow`, whether it is sent as JSON or YAML."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Read no more than one byte above the limit: what is so long is refused."""
        return stream.read(MAX_BYTES + 1)


class YamlText(JsonText):
    """The same, sent as YAML."""

    media_type = YAML


class AsJson(JSONRenderer):
    """A workflow as JSON."""

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> Any:
        """Write a workflow; what else is answered, errors, as the rest of the API does."""
        if isinstance(data, Document):
            return self.text(data).encode()
        return super().render(data, accepted_media_type, renderer_context)

    def text(self, document: Document) -> str:
        """Return the workflow as it is written."""
        return as_json(document)


class AsYaml(AsJson):
    """A workflow as YAML. Errors are written as JSON, which is YAML too."""

    media_type, format = YAML, "yaml"

    def text(self, document: Document) -> str:
        """Return the workflow as it is written."""
        return as_yaml(document)


class Workflows(ProjectsApi):
    """All workflows."""

    scopes: ClassVar = {"GET": READ, "POST": WRITE}
    serializer_class = WorkflowSerializer
    parser_classes = (JsonText, YamlText)

    def get(self, request: Request) -> Response:
        """List the versions of all workflows, newest first."""
        return self.page(Workflow.objects.defer("definition"))

    @extend_schema(
        request={"application/json": OpenApiTypes.OBJECT, YAML: OpenApiTypes.OBJECT},
        responses={201: WorkflowSerializer},
    )
    def post(self, request: Request) -> Response:
        """Store a workflow as the next version of its key; the newest is answered where nothing changed."""
        if self.key_project is not None:
            raise PermissionDenied("This API key is for one project. Workflows are for all: use a key for all.")
        permissions.check_can_work(self.user)
        sent: Any = request.data or b""
        made = import_workflow(sent, by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(made).data, status=201)


class OneWorkflow(ProjectsApi):
    """A version of a workflow."""

    scopes: ClassVar = {"GET": READ}
    serializer_class = WorkflowSerializer
    renderer_classes = (AsJson, AsYaml)

    @extend_schema(
        operation_id="workflows_get",
        parameters=[VersionSerializer],
        responses={(200, "application/json"): OpenApiTypes.OBJECT, (200, YAML): OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, workflow: str) -> Response:
        """Show a workflow as it can be sent back; `Accept: application/yaml` for YAML."""
        asked = VersionSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data["version"]
        versions = Workflow.objects.filter(key=workflow).order_by("-version")
        found = (versions if wanted is None else versions.filter(version=wanted)).first()
        if found is None:
            raise Http404("There is no such workflow.")
        return Response(document_of(found))
