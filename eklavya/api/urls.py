"""Addresses of the API, version 1. Each app brings its views; this is the only list of them."""

from typing import ClassVar

from django.contrib.auth.decorators import login_not_required
from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from accounts.api.permissions import HasScope
from accounts.scopes import Scope
from agents.api import views as agents
from billing.api import views as billing
from eklavya.api.errors import not_found
from projects.api import views as projects


class Schema(SpectacularAPIView):
    """The OpenAPI schema, for whoever may look at projects."""

    permission_classes = (HasScope,)
    scopes: ClassVar = {"GET": Scope.PROJECTS_READ}


_PROJECT = "v1/projects/<uuid:project_id>/"
urlpatterns = [
    path("schema/", Schema.as_view(), name="api_schema"),
    path("v1/projects/", projects.Projects.as_view(), name="api_projects"),
    path(_PROJECT, projects.ProjectDetail.as_view(), name="api_project"),
    path(f"{_PROJECT}tasks/", projects.Tasks.as_view(), name="api_tasks"),
    path(f"{_PROJECT}runs/", agents.Runs.as_view(), name="api_runs"),
    path(f"{_PROJECT}ledger/", billing.ProjectLedger.as_view(), name="api_project_ledger"),
    path(f"{_PROJECT}messages/", projects.Messages.as_view(), name="api_messages"),
    path(f"{_PROJECT}pause/", projects.Pause.as_view(), name="api_pause"),
    path(f"{_PROJECT}resume/", projects.Resume.as_view(), name="api_resume"),
    path(f"{_PROJECT}cancel/", projects.Cancel.as_view(), name="api_cancel"),
    path("v1/approvals/", projects.Approvals.as_view(), name="api_approvals"),
    path("v1/approvals/<uuid:approval_id>/", projects.OneApproval.as_view(), name="api_approval"),
    path("v1/approvals/<uuid:approval_id>/decide/", projects.Decide.as_view(), name="api_decide"),
    path("v1/ledger/", billing.Ledger.as_view(), name="api_ledger"),
    path("v1/audit/", projects.Audit.as_view(), name="api_audit"),
    path("<path:rest>", login_not_required(not_found), name="api_not_found"),
]
