"""Addresses of the API, version 1. Each app brings its views; this is the only list of them."""

from typing import ClassVar

from django.contrib.auth.decorators import login_not_required
from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from accounts.api.permissions import HasScope
from accounts.scopes import Scope
from agents.api import remote, workers
from agents.api import views as agents
from billing.api import views as billing
from eklavya.api.errors import not_found
from projects.api import executions, webhooks, workflows
from projects.api import views as projects


class Schema(SpectacularAPIView):
    """The OpenAPI schema, for whoever may look at projects."""

    permission_classes = (HasScope,)
    scopes: ClassVar = {"GET": Scope.PROJECTS_READ}


_PROJECT = "v1/projects/<uuid:project_id>/"
_WORKER = "v1/workers/<uuid:worker_id>/"
_EXECUTION = "v1/executions/<uuid:execution_id>/"
_TASK = "v1/tasks/<uuid:task_id>/"
_WEBHOOK = "v1/webhooks/<uuid:webhook_id>/"
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
    path("v1/workflows/", workflows.Workflows.as_view(), name="api_workflows"),
    path("v1/workflows/<slug:workflow>/", workflows.OneWorkflow.as_view(), name="api_workflow"),
    path(f"{_PROJECT}executions/", executions.Executions.as_view(), name="api_executions"),
    path(_EXECUTION, executions.OneExecution.as_view(), name="api_execution"),
    path(f"{_EXECUTION}nodes/", executions.Nodes.as_view(), name="api_execution_nodes"),
    path(f"{_EXECUTION}log/", executions.Log.as_view(), name="api_execution_log"),
    path(f"{_EXECUTION}nodes/<slug:node>/retry/", executions.RetryNode.as_view(), name="api_node_retry"),
    path(f"{_EXECUTION}nodes/<slug:node>/skip/", executions.SkipNode.as_view(), name="api_node_skip"),
    *[
        path(f"{_EXECUTION}{verb}/", executions.SteerExecution.as_view(), {"verb": verb}, name=f"api_execution_{verb}")
        for verb in ("pause", "resume", "cancel")
    ],
    path(f"{_TASK}retry/", executions.RetryTask.as_view(), name="api_task_retry"),
    path(f"{_TASK}skip/", executions.SkipTask.as_view(), name="api_task_skip"),
    path(f"{_TASK}reassign/", executions.ReassignTask.as_view(), name="api_task_reassign"),
    path("v1/approvals/", projects.Approvals.as_view(), name="api_approvals"),
    path("v1/approvals/<uuid:approval_id>/", projects.OneApproval.as_view(), name="api_approval"),
    path("v1/approvals/<uuid:approval_id>/decide/", projects.Decide.as_view(), name="api_decide"),
    path("v1/ledger/", billing.Ledger.as_view(), name="api_ledger"),
    path("v1/audit/", projects.Audit.as_view(), name="api_audit"),
    path("v1/workers/", workers.Workers.as_view(), name="api_workers"),
    path(_WORKER, workers.OneWorker.as_view(), name="api_worker"),
    path(f"{_WORKER}heartbeat/", remote.Heartbeat.as_view(), name="api_worker_heartbeat"),
    path(f"{_WORKER}cordon/", workers.CordonWorker.as_view(), name="api_worker_cordon"),
    path(f"{_WORKER}drain/", workers.DrainWorker.as_view(), name="api_worker_drain"),
    path(f"{_WORKER}uncordon/", workers.UncordonWorker.as_view(), name="api_worker_uncordon"),
    path("v1/subtasks/<uuid:run_id>/files/", remote.RunFiles.as_view(), name="api_run_files"),
    path("v1/subtasks/<uuid:run_id>/result/", remote.RunResult.as_view(), name="api_run_result"),
    path("v1/webhooks/", webhooks.Webhooks.as_view(), name="api_webhooks"),
    path(_WEBHOOK, webhooks.Webhook.as_view(), name="api_webhook"),
    path(f"{_WEBHOOK}enable/", webhooks.EnableWebhook.as_view(), name="api_webhook_enable"),
    path(f"{_WEBHOOK}disable/", webhooks.DisableWebhook.as_view(), name="api_webhook_disable"),
    path(f"{_WEBHOOK}rotate/", webhooks.RotateWebhook.as_view(), name="api_webhook_rotate"),
    path(f"{_WEBHOOK}test/", webhooks.TestWebhook.as_view(), name="api_webhook_test"),
    path(f"{_WEBHOOK}deliveries/", webhooks.Deliveries.as_view(), name="api_webhook_deliveries"),
    path(
        f"{_WEBHOOK}deliveries/<uuid:delivery_id>/redeliver/",
        webhooks.Redeliver.as_view(),
        name="api_webhook_redeliver",
    ),
    path("<path:rest>", login_not_required(not_found), name="api_not_found"),
]
