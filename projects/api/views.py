"""Projects, tasks, approvals, conversation and audit log for programs."""

from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Model, QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.views import NewestFirst, ScopedView
from accounts.scopes import Scope
from accounts.web import why_not
from projects import permissions
from projects.actions import approvals, chat
from projects.actions import projects as actions
from projects.actors import Actor
from projects.api import serializers as shapes
from projects.models import Approval, AuditLog, Project, Task
from projects.queries import open_approvals
from projects.states import ApprovalKind

M = TypeVar("M", bound=Model)
READ, WRITE = Scope.PROJECTS_READ, Scope.PROJECTS_WRITE
_KEY_NAME_CHARS = 70


class ProjectsApi(ScopedView, GenericAPIView[Any]):
    """What the addresses of this app share."""

    pagination_class = NewestFirst

    def actor(self) -> Actor:
        """Return who acts: the key's owner, with the key named."""
        by = Actor.person(self.user)
        if self.key is None:
            return by
        return Actor(by.kind, f"{by.name[:_KEY_NAME_CHARS]} (key {self.key.prefix})", by.id)

    def project(self) -> Project:
        """Return the project of the address. Raises Http404."""
        found = self.of_key(Project.objects.filter(pk=self.kwargs["project_id"]), "pk").first()
        if found is None:
            raise Http404("There is no such project.")
        return found

    def read(self, shape: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return what was sent, in its shape. Raises ValidationError."""
        sent = shape(data=self.request.data)
        sent.is_valid(raise_exception=True)
        data: dict[str, Any] = sent.validated_data
        return data

    def page(self, rows: QuerySet[M]) -> Response:
        """Answer with the page of rows that was asked for."""
        found = self.paginate_queryset(rows)
        return self.get_paginated_response(self.get_serializer(found, many=True).data)

    def check_money(self) -> None:
        """Raise unless the key, where one is used, may raise limits."""
        if self.key and not self.key.may(Scope.MONEY_WRITE, self.key_project):
            raise PermissionDenied(why_not(self.key, Scope.MONEY_WRITE))


class Projects(ProjectsApi):
    """All projects."""

    scopes: ClassVar = {"GET": READ, "POST": WRITE}
    serializer_class = shapes.ProjectSerializer

    @extend_schema(operation_id="projects_list")
    def get(self, request: Request) -> Response:
        """List projects, newest first."""
        return self.page(self.of_key(Project.objects.all(), "pk"))

    @extend_schema(request=shapes.NewProjectSerializer, responses={201: shapes.ProjectDetailSerializer})
    def post(self, request: Request) -> Response:
        """Start a project from a brief."""
        if self.key_project is not None:
            raise PermissionDenied("This API key is for one project and starts no others.")
        sent = self.read(shapes.NewProjectSerializer)
        limit = sent.get("budget_limit")
        permissions.check_can_fund(self.user, limit)
        if limit is not None and limit > settings.EKLAVYA_BUDGET_LIMIT:
            self.check_money()
        draft = actions.NewProject(sent["brief"], sent["name"], sent["client_name"], limit)
        made = actions.create_project(draft, by=self.actor(), now=timezone.now())
        return Response(shapes.ProjectDetailSerializer(made).data, status=201)


class ProjectDetail(ProjectsApi):
    """One project."""

    scopes: ClassVar = {"GET": READ}
    serializer_class = shapes.ProjectDetailSerializer

    @extend_schema(operation_id="projects_get")
    def get(self, request: Request, project_id: UUID) -> Response:
        """Show a project."""
        return Response(self.get_serializer(self.project()).data)


class Tasks(ProjectsApi):
    """The tasks of a project."""

    scopes: ClassVar = {"GET": READ}
    serializer_class = shapes.TaskSerializer

    def get(self, request: Request, project_id: UUID) -> Response:
        """List the tasks of a project, newest first."""
        return self.page(Task.objects.filter(project=self.project()))


class Messages(ProjectsApi):
    """The conversation of a project."""

    scopes: ClassVar = {"POST": WRITE}
    serializer_class = shapes.MessageSerializer

    @extend_schema(request=shapes.NewMessageSerializer, responses={201: shapes.MessageSerializer})
    def post(self, request: Request, project_id: UUID) -> Response:
        """Write to the squad."""
        found = self.project()
        permissions.check_can_write(self.user, found)
        body = self.read(shapes.NewMessageSerializer)["body"]
        line = chat.post_message(found, body, by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(line).data, status=201)


class Steer(ProjectsApi):
    """A step in a project's life."""

    scopes: ClassVar = {"POST": WRITE}
    serializer_class = shapes.ProjectDetailSerializer

    def step(self, found: Project, reason: str) -> None:
        """Check and take the step."""
        raise NotImplementedError

    @extend_schema(request=shapes.ReasonSerializer)
    def post(self, request: Request, project_id: UUID) -> Response:
        """Take the step."""
        found = self.project()
        self.step(found, self.read(shapes.ReasonSerializer)["reason"])
        found.refresh_from_db()
        return Response(self.get_serializer(found).data)


class Pause(Steer):
    """Stop starting work."""

    def step(self, found: Project, reason: str) -> None:
        permissions.check_can_pause(self.user, found)
        by = self.actor()
        actions.pause_project(found, reason=reason or f"Paused by {by.name}.", by=by, now=timezone.now())


class Resume(Steer):
    """Go on where the project was paused."""

    def step(self, found: Project, reason: str) -> None:
        permissions.check_can_resume(self.user, found)
        actions.resume_project(found, by=self.actor(), now=timezone.now())


class Cancel(Steer):
    """Give the project up."""

    def step(self, found: Project, reason: str) -> None:
        permissions.check_can_cancel(self.user, found)
        by = self.actor()
        actions.cancel_project(found, reason=reason or f"Cancelled by {by.name}.", by=by, now=timezone.now())


class Approvals(ProjectsApi):
    """What is asked of people."""

    scopes: ClassVar = {"GET": READ}
    serializer_class = shapes.ApprovalSerializer

    @extend_schema(operation_id="approvals_list")
    def get(self, request: Request) -> Response:
        """List approvals, newest first; with `?open=true` only those that wait."""
        rows = open_approvals() if request.query_params.get("open") == "true" else Approval.objects.all()
        return self.page(self.of_key(rows.select_related("decided_by").order_by()))


class ApprovalApi(ProjectsApi):
    """What the addresses of one approval share."""

    serializer_class = shapes.ApprovalSerializer

    def approval(self) -> Approval:
        """Return the approval of the address. Raises Http404."""
        rows = Approval.objects.select_related("project", "decided_by").filter(pk=self.kwargs["approval_id"])
        found = self.of_key(rows).first()
        if found is None:
            raise Http404("There is no such approval.")
        return found


class OneApproval(ApprovalApi):
    """One approval."""

    scopes: ClassVar = {"GET": READ}

    @extend_schema(operation_id="approvals_get")
    def get(self, request: Request, approval_id: UUID) -> Response:
        """Show an approval."""
        return Response(self.get_serializer(self.approval()).data)


class Decide(ApprovalApi):
    """A decision."""

    scopes: ClassVar = {"POST": Scope.APPROVALS_DECIDE}

    @extend_schema(request=shapes.DecisionSerializer)
    def post(self, request: Request, approval_id: UUID) -> Response:
        """Take the decision."""
        found = self.approval()
        permissions.check_can_decide(self.user, found)
        if found.kind == ApprovalKind.BUDGET:
            self.check_money()
        sent = self.read(shapes.DecisionSerializer)
        decision = approvals.Decision(sent["option"], sent["comment"], tuple(sent["answers"]))
        approvals.decide(found.pk, decision, by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(self.approval()).data)


class Audit(ProjectsApi):
    """The audit log."""

    scopes: ClassVar = {"GET": Scope.AUDIT_READ}
    serializer_class = shapes.AuditSerializer

    def get(self, request: Request) -> Response:
        """List the rows of all chains, newest first; `?chain=` for one of them, `?action=` for a prefix."""
        rows = AuditLog.objects.all()
        if chain := _asked(request, "chain", 36):
            rows = rows.filter(chain=chain)
        if action := _asked(request, "action", 64):
            rows = rows.filter(action__startswith=action)
        return self.page(self.of_key(rows))


def _asked(request: Request, name: str, max_chars: int) -> str:
    return request.query_params.get(name, "").replace("\x00", "")[:max_chars]
