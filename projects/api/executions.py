"""Executions for programs, and what a person does to tasks and nodes."""

import json
from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from projects import permissions
from projects.actions import redoing, steering, workflows
from projects.actions.workflows import MAX_INPUT_CHARS, MAX_KEY_CHARS, Start
from projects.api.serializers import ReasonSerializer, TaskSerializer
from projects.api.views import READ, WRITE, ProjectsApi
from projects.models import Execution, ExecutionLog, ExecutionNode, Task, Workflow
from projects.roles import Role
from projects.workflows.work import MAX_RESULT_CHARS


class JsonObject(serializers.JSONField):
    """A JSON object of a bounded size."""

    def __init__(self, *, max_chars: int, **options: Any) -> None:
        super().__init__(**options)
        self.max_chars = max_chars

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise serializers.ValidationError("It is no JSON object.")
        if len(json.dumps(data)) > self.max_chars:
            raise serializers.ValidationError(f"It is over {self.max_chars:,} characters of JSON.")
        return data


class ExecutionSerializer(serializers.ModelSerializer[Execution]):
    """One use of a workflow."""

    workflow = serializers.CharField(source="workflow.key", read_only=True)
    version = serializers.IntegerField(source="workflow.version", read_only=True)

    class Meta:
        model = Execution
        fields: tuple[str, ...] = (
            "id",
            "project_id",
            "workflow",
            "version",
            "key",
            "status",
            "detail",
            "open_count",
            "started_by",
            "created_at",
            "finished_at",
        )


class ExecutionDetailSerializer(ExecutionSerializer):
    """An execution by itself."""

    class Meta(ExecutionSerializer.Meta):
        fields = (*ExecutionSerializer.Meta.fields, "input", "result")


class NodeSerializer(serializers.ModelSerializer[ExecutionNode]):
    """A node of an execution: where it stands, what it returned, and the task that it is."""

    class Meta:
        model = ExecutionNode
        fields = (
            "id",
            "position",
            "key",
            "kind",
            "status",
            "attempts",
            "task_id",
            "result",
            "error",
            "started_at",
            "finished_at",
        )


class LogSerializer(serializers.ModelSerializer[ExecutionLog]):
    """A line of an execution's log."""

    class Meta:
        model = ExecutionLog
        fields = ("id", "position", "event", "detail", "at")


class StartSerializer(serializers.Serializer[None]):
    """A workflow by its key, in its newest version if none is named."""

    workflow = serializers.CharField(max_length=64)
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False, default=None, allow_null=True)
    key = serializers.CharField(max_length=MAX_KEY_CHARS, required=False, default=None, allow_null=True)
    input = JsonObject(max_chars=MAX_INPUT_CHARS, required=False, default=dict)


class SkipSerializer(serializers.Serializer[None]):
    """What is taken for the result of what is left out: conditions are decided on it."""

    result = JsonObject(max_chars=MAX_RESULT_CHARS, required=False, default=None, allow_null=True)


class ReassignSerializer(serializers.Serializer[None]):
    """A role of the project's squad."""

    role = serializers.ChoiceField(choices=Role.choices)


class Executions(ProjectsApi):
    """What is carried out in a project."""

    scopes: ClassVar = {"GET": READ, "POST": WRITE}
    serializer_class = ExecutionSerializer

    @extend_schema(operation_id="executions_list")
    def get(self, request: Request, project_id: UUID) -> Response:
        """List the executions of a project, newest first."""
        return self.page(Execution.objects.filter(project=self.project()).select_related("workflow"))

    @extend_schema(request=StartSerializer, responses={201: ExecutionDetailSerializer})
    def post(self, request: Request, project_id: UUID) -> Response:
        """Start a workflow, once for each key."""
        found = self.project()
        permissions.check_can_work(self.user)
        sent = self.read(StartSerializer)
        versions = Workflow.objects.filter(key=sent["workflow"]).order_by("-version")
        chosen = versions.first() if sent["version"] is None else versions.filter(version=sent["version"]).first()
        if chosen is None:
            raise serializers.ValidationError({"workflow": ["There is no such workflow."]})
        start = Start(sent["key"], sent["input"])
        made = workflows.start_execution(chosen, start, project=found, by=self.actor(), now=timezone.now())
        return Response(ExecutionDetailSerializer(made).data, status=201)


class ExecutionApi(ProjectsApi):
    """What the addresses of one execution share."""

    serializer_class: type[serializers.BaseSerializer[Any]] = ExecutionDetailSerializer

    def execution(self) -> Execution:
        """Return the execution of the address. Raises Http404."""
        rows = Execution.objects.select_related("workflow", "project").filter(pk=self.kwargs["execution_id"])
        found = self.of_key(rows).first()
        if found is None:
            raise Http404("There is no such execution.")
        return found


class OneExecution(ExecutionApi):
    """One execution."""

    scopes: ClassVar = {"GET": READ}

    @extend_schema(operation_id="executions_get")
    def get(self, request: Request, execution_id: UUID) -> Response:
        """Show an execution."""
        return Response(self.get_serializer(self.execution()).data)


class Nodes(ExecutionApi):
    """The nodes of an execution."""

    scopes: ClassVar = {"GET": READ}
    serializer_class = NodeSerializer

    def get(self, request: Request, execution_id: UUID) -> Response:
        """List the nodes, the last of the workflow first."""
        return self.page(ExecutionNode.objects.filter(execution=self.execution()))


class Log(ExecutionApi):
    """The log of an execution."""

    scopes: ClassVar = {"GET": READ}
    serializer_class = LogSerializer

    def get(self, request: Request, execution_id: UUID) -> Response:
        """List what happened to its nodes, newest first."""
        return self.page(ExecutionLog.objects.filter(execution_id=self.execution().pk))


class SteerExecution(ExecutionApi):
    """A verb: pause, resume or cancel."""

    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(request=ReasonSerializer)
    def post(self, request: Request, execution_id: UUID, verb: str) -> Response:
        """Start nothing further of it, go on, or give it up; a reason is kept for the last."""
        found = self.execution()
        permissions.check_can_work(self.user)
        reason = self.read(ReasonSerializer)["reason"]
        by, now = self.actor(), timezone.now()
        match verb:
            case "pause":
                workflows.pause_execution(found, by=by, now=now)
            case "resume":
                workflows.resume_execution(found, by=by, now=now)
            case _:
                workflows.cancel_execution(found, reason=reason or f"Cancelled by {by.name}.", by=by, now=now)
        return Response(self.get_serializer(self.execution()).data)


class RetryNode(ExecutionApi):
    """A verb."""

    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(request=None)
    def post(self, request: Request, execution_id: UUID, node: str) -> Response:
        """Do a node anew, and all that follows it."""
        found = self.execution()
        permissions.check_can_work(self.user)
        redoing.retry_from(found, node, by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(self.execution()).data)


class SkipNode(ExecutionApi):
    """A verb."""

    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(request=SkipSerializer)
    def post(self, request: Request, execution_id: UUID, node: str) -> Response:
        """Leave a node out, as if it had returned the result."""
        found = self.execution()
        permissions.check_can_work(self.user)
        result = self.read(SkipSerializer)["result"]
        redoing.skip_node(found, node, result=result, by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(self.execution()).data)


class TaskApi(ProjectsApi):
    """What the verbs of one task share."""

    scopes: ClassVar = {"POST": WRITE}
    serializer_class = TaskSerializer

    def task(self) -> Task:
        """Return the task of the address. Raises Http404, NotAllowed."""
        found = self.of_key(Task.objects.select_related("project").filter(pk=self.kwargs["task_id"])).first()
        if found is None:
            raise Http404("There is no such task.")
        permissions.check_can_work(self.user)
        return found

    def answer(self) -> Response:
        """Answer with the task as it is now."""
        return Response(self.get_serializer(self.task()).data)


class RetryTask(TaskApi):
    """A verb."""

    @extend_schema(request=None)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Try a blocked or failed task again, or one that waits for its next attempt at once."""
        steering.retry_task(self.task(), by=self.actor(), now=timezone.now())
        return self.answer()


class SkipTask(TaskApi):
    """A verb."""

    @extend_schema(request=SkipSerializer)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Leave a task out; what waits for it goes on."""
        found = self.task()
        steering.skip_task(found, result=self.read(SkipSerializer)["result"], by=self.actor(), now=timezone.now())
        return self.answer()


class ReassignTask(TaskApi):
    """A verb."""

    @extend_schema(request=ReassignSerializer)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Have a task done by another role of the squad."""
        found = self.task()
        steering.reassign_task(found, self.read(ReassignSerializer)["role"], by=self.actor(), now=timezone.now())
        return self.answer()
