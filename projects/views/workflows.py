"""Workflows of the whole house: each with its versions and its executions in all projects, and storing a file."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from projects import permissions, workflow_lists
from projects.actions.workflow_files import import_workflow
from projects.actions.workflows import document_of
from projects.actors import Actor
from projects.forms import WorkflowFileForm
from projects.models import Workflow
from projects.refused import is_valid
from projects.states import ExecutionStatus
from projects.web import PageRequest, act, page_of, refusal, render_page
from projects.workflows.definition import InvalidWorkflow
from projects.workflows.documents import MAX_BYTES
from projects.workflows.main_job import main_job_warnings


@require_http_methods(["GET", "POST"])
@act
def workflows(request: PageRequest) -> HttpResponse:
    """All workflows, those first that were changed last; POST stores one from a file."""
    form = WorkflowFileForm()
    if request.method == "POST":
        form, made = stored(request)
        if made:
            return redirect("workflow", made.key)
    page = page_of(workflow_lists.newest_versions(), request, keys=("id",), size=25)
    context = {
        "page": page,
        "rows": workflow_lists.listed(page.items, now=timezone.now()),
        "file_form": form,
        "problems": form.errors.get("file", []),
        "work_refusal": refusal(permissions.check_can_work, request.user),
    }
    return render_page(request, "projects/workflows.html", context, status=422 if form.errors else 200)


@require_GET
def workflow(request: PageRequest, key: str) -> HttpResponse:
    """One workflow: its versions, and its executions in all projects, newest first."""
    versions = workflow_lists.versions(key)
    if not versions:
        raise Http404("There is no such workflow.")
    chosen = request.GET.get("state", "")
    state = chosen if chosen in ExecutionStatus.values else ""
    context = {
        "workflow": versions[0],
        "versions": versions,
        "page": page_of(workflow_lists.executions(key, state), request, keys=("id",), size=25),
        "chosen": state,
        "states": ExecutionStatus.values,
    }
    return render_page(request, "projects/workflow.html", context)


def stored(request: PageRequest) -> tuple[WorkflowFileForm, Workflow | None]:
    """Store the file that was sent, with a message that says so; the form says why where it was refused."""
    permissions.check_can_work(request.user)
    form = WorkflowFileForm(request.POST, request.FILES)
    if not is_valid(request, form):
        return form, None
    sent = form.cleaned_data["file"].read(MAX_BYTES + 1)
    try:
        made = import_workflow(sent, by=Actor.person(request.user), now=timezone.now())
    except InvalidWorkflow as error:
        form.add_error("file", list(error.problems))
        return form, None
    messages.success(request, f"“{made.name}” is stored as {made}.")
    for warning in main_job_warnings(made.key, document_of(made).definition):
        messages.warning(request, warning)
    return form, made
