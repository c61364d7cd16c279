"""Addresses of the pages of agents."""

from django.urls import path

from agents.views import files, house, recovery, roles, runs, workers

urlpatterns = [
    path("projects/<uuid:project_id>/runs/", runs.project_runs, name="project_runs"),
    path("projects/<uuid:project_id>/files/", files.project_files, name="project_files"),
    path("projects/<uuid:project_id>/changes/", files.project_changes, name="project_changes"),
    path("projects/<uuid:project_id>/download/", files.download, name="project_download"),
    path("git/<str:token>/<str:name>.git/info/refs", files.git_refs, name="git_refs"),
    path("git/<str:token>/<str:name>.git/git-upload-pack", files.git_pack, name="git_pack"),
    path("git/<uuid:project_id>.git/info/refs", files.git_refs_by_key, name="git_refs_by_key"),
    path("git/<uuid:project_id>.git/git-upload-pack", files.git_pack_by_key, name="git_pack_by_key"),
    path("runs/<uuid:run_id>/", runs.run, name="run"),
    path("tasks/<uuid:task_id>/", house.task, name="task"),
    path("agents/", house.agents, name="agents"),
    path("workers/", workers.workers, name="workers"),
    path("workers/<uuid:worker_id>/cordon/", workers.cordon, name="worker_cordon"),
    path("workers/<uuid:worker_id>/drain/", workers.drain, name="worker_drain"),
    path("workers/<uuid:worker_id>/uncordon/", workers.uncordon, name="worker_uncordon"),
    path("workers/<uuid:worker_id>/forget/", workers.forget, name="worker_forget"),
    path("settings/recovery/", recovery.recovery, name="recovery"),
    path("settings/recovery/switch/", recovery.switch, name="recovery_switch"),
    path("settings/recovery/caps/", recovery.caps, name="recovery_caps"),
    path("settings/roles/", roles.roles, name="roles"),
    path("settings/roles/new/", roles.new_specialisation, name="specialisation_new"),
    path("settings/roles/agents/", roles.specialise, name="agent_specialise"),
    path("settings/roles/squads/", roles.specialise_squad, name="squad_specialise"),
]
