"""Addresses of the pages of projects. They carry no namespace: a page is named by what it shows."""

from django.urls import path

from projects.views import approvals, audit, executions, home, project, secrets, webhooks, without_answer, workflows

_EXECUTION = "executions/<uuid:execution_id>/"
urlpatterns = [
    path("", home.home, name="home"),
    path("news/read/", home.news_read, name="news_read"),
    path("projects/", home.projects, name="projects"),
    path("projects/new/", home.project_new, name="project_new"),
    path("projects/<uuid:project_id>/", project.project, name="project"),
    path("projects/<uuid:project_id>/say/", project.say, name="project_say"),
    path("projects/<uuid:project_id>/pause/", project.pause, name="project_pause"),
    path("projects/<uuid:project_id>/resume/", project.resume, name="project_resume"),
    path("projects/<uuid:project_id>/cancel/", project.cancel, name="project_cancel"),
    path("projects/<uuid:project_id>/archive/", project.archive, name="project_archive"),
    path("projects/<uuid:project_id>/board/", project.board, name="project_board"),
    path("projects/<uuid:project_id>/plan/", project.plan, name="project_plan"),
    path("projects/<uuid:project_id>/workflows/", executions.project_executions, name="project_executions"),
    path("projects/<uuid:project_id>/workflows/start/", executions.execution_start, name="execution_start"),
    path("workflows/", workflows.workflows, name="workflows"),
    path("workflows/<slug:key>/", workflows.workflow, name="workflow"),
    *[
        path(f"workflows/<uuid:workflow_id>.{form}", executions.workflow_file, {"form": form}, name=f"workflow_{form}")
        for form in ("yaml", "json")
    ],
    path(_EXECUTION, executions.execution, name="execution"),
    *[
        path(
            f"{_EXECUTION}{verb}/",
            executions.execution_steer,
            {"verb": verb},
            name=f"execution_{verb}",
        )
        for verb in ("pause", "resume", "cancel")
    ],
    path(f"{_EXECUTION}nodes/<slug:node>/retry/", executions.node_retry, name="node_retry"),
    path(f"{_EXECUTION}nodes/<slug:node>/skip/", executions.node_skip, name="node_skip"),
    path("tasks/<uuid:task_id>/retry/", executions.task_retry, name="task_retry"),
    path("tasks/<uuid:task_id>/skip/", executions.task_skip, name="task_skip"),
    path("tasks/<uuid:task_id>/reassign/", executions.task_reassign, name="task_reassign"),
    path("projects/<uuid:project_id>/without-answer/", without_answer.without_answer, name="without_answer"),
    path("projects/<uuid:project_id>/audit/", audit.project_audit, name="project_audit"),
    path("projects/<uuid:project_id>/secrets/", secrets.project_secrets, name="project_secrets"),
    path("projects/<uuid:project_id>/secrets/set/", secrets.project_secret_set, name="project_secret_set"),
    path("secrets/", secrets.secrets, name="secrets"),
    path("secrets/set/", secrets.secret_set, name="secret_set"),
    path("secrets/<uuid:secret_id>/remove/", secrets.secret_remove, name="secret_remove"),
    path("settings/webhooks/", webhooks.webhooks, name="webhooks"),
    path("settings/webhooks/<uuid:webhook_id>/", webhooks.webhook, name="webhook"),
    path("settings/webhooks/<uuid:webhook_id>/enable/", webhooks.webhook_enable, name="webhook_enable"),
    path("settings/webhooks/<uuid:webhook_id>/disable/", webhooks.webhook_disable, name="webhook_disable"),
    path("settings/webhooks/<uuid:webhook_id>/rotate/", webhooks.webhook_rotate, name="webhook_rotate"),
    path("settings/webhooks/<uuid:webhook_id>/test/", webhooks.webhook_test, name="webhook_test"),
    path("settings/webhooks/<uuid:webhook_id>/remove/", webhooks.webhook_remove, name="webhook_remove"),
    path(
        "settings/webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/redeliver/",
        webhooks.webhook_redeliver,
        name="webhook_redeliver",
    ),
    path("approvals/", approvals.approvals, name="approvals"),
    path("approvals/<uuid:approval_id>/", approvals.approval, name="approval"),
    path("audit/", audit.audit, name="audit"),
]
