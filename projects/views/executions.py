"""Workflows of a project: what is carried out, one execution with its graph and its log, and what a person does to
them and to single tasks."""

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import executions, permissions
from projects.actions import redoing, steering, workflows
from projects.actions.workflows import InvalidExecution, Start, document_of
from projects.actors import Actor
from projects.forms import StartForm, WorkflowFileForm
from projects.models import Execution, ExecutionLog, Project, Task, Workflow
from projects.views.project import tab
from projects.views.workflows import stored
from projects.web import PageRequest, act, came_from, get_project, page_of, refusal, render_page
from projects.workflows.documents import as_json, as_yaml

MAX_RESULT_CHARS = 20_000


@require_http_methods(["GET", "POST"])
@act
def project_executions(request: PageRequest, project_id: UUID) -> HttpResponse:
    """What was started here, newest first, and starting another; POST stores a workflow from a file."""
    found = get_project(project_id)
    if request.method != "POST":
        return _executions(request, found, WorkflowFileForm())
    form, made = stored(request)
    if made:
        return redirect("project_executions", found.pk)
    return _executions(request, found, form, status=422)


def _executions(request: PageRequest, found: Project, form: WorkflowFileForm, *, status: int = 200) -> HttpResponse:
    page = page_of(found.executions.select_related("workflow"), request, keys=("id",), size=25)
    files = executions.newest()
    startable = executions.startable(files)
    context = tab(
        request,
        found,
        "project_executions",
        page=page,
        form=StartForm(workflows=startable),
        workflows=startable,
        files=files,
        start_refusal=refusal(permissions.check_can_start, request.user, found),
        file_form=form,
        problems=form.errors.get("file", []),
        work_refusal=refusal(permissions.check_can_work, request.user),
    )
    return render_page(request, "projects/executions.html", context, status=status)


@require_GET
@act
def workflow_file(request: PageRequest, workflow_id: UUID, form: str) -> HttpResponse:
    """Download a version of a workflow."""
    found = Workflow.objects.filter(pk=workflow_id).first()
    if found is None:
        raise Http404("There is no such workflow.")
    text = as_yaml(document_of(found)) if form == "yaml" else as_json(document_of(found))
    response = HttpResponse(text, content_type=f"application/{form}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{found.key}-{found.version}.{form}"'
    return response


@require_POST
@act
def execution_start(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Start a workflow in the project."""
    found = get_project(project_id)
    permissions.check_can_start(request.user, found)
    startable = executions.startable(executions.newest())
    form = StartForm(request.POST, workflows=startable)
    if not form.is_valid():
        raise InvalidExecution("Choose a workflow, and say in at most 20,000 characters what it is about.")
    chosen = next(one for one in startable if one.key == form.cleaned_data["workflow"])
    asked = form.cleaned_data["request"].strip()
    start = Start(input={"request": asked} if asked else {})
    made = workflows.start_execution(chosen, start, project=found, by=_by(request), now=timezone.now())
    return redirect("execution", made.pk)


@require_GET
def execution(request: PageRequest, execution_id: UUID) -> HttpResponse:
    """One execution: its graph, its nodes, its log."""
    found = _execution(execution_id)
    page = page_of(ExecutionLog.objects.filter(execution_id=found.pk), request, keys=("id",), size=50)
    shown = executions.detail(found)
    context: dict[str, Any] = {
        "execution": found,
        "detail": shown,
        "page": page,
        "log": [(line, executions.key_at(found, line.position)) for line in page.items],
        "work_refusal": refusal(permissions.check_can_work, request.user),
    }
    if found.project is not None:
        context |= tab(request, found.project, "project_executions")
    return render_page(request, "projects/execution.html", context)


@require_POST
@act
def execution_steer(request: PageRequest, execution_id: UUID, verb: str) -> HttpResponse:
    """Pause, resume or cancel an execution."""
    found = _execution(execution_id)
    permissions.check_can_work(request.user)
    by, now = _by(request), timezone.now()
    match verb:
        case "pause":
            workflows.pause_execution(found, by=by, now=now)
        case "resume":
            workflows.resume_execution(found, by=by, now=now)
        case _:
            workflows.cancel_execution(found, reason=f"Cancelled by {by.name}.", by=by, now=now)
    return redirect("execution", execution_id)


@require_POST
@act
def node_retry(request: PageRequest, execution_id: UUID, node: str) -> HttpResponse:
    """Do a node anew, and what follows it."""
    found = _execution(execution_id)
    permissions.check_can_work(request.user)
    redoing.retry_from(found, node, by=_by(request), now=timezone.now())
    return redirect("execution", execution_id)


@require_POST
@act
def node_skip(request: PageRequest, execution_id: UUID, node: str) -> HttpResponse:
    """Leave a node out."""
    found = _execution(execution_id)
    permissions.check_can_work(request.user)
    redoing.skip_node(found, node, result=_result(request), by=_by(request), now=timezone.now())
    return redirect("execution", execution_id)


@require_POST
@act
def task_retry(request: PageRequest, task_id: UUID) -> HttpResponse:
    """Try a task again."""
    found = _task(request, task_id)
    steering.retry_task(found, by=_by(request), now=timezone.now())
    messages.success(request, f"“{found.title}” is tried again.")
    return redirect(came_from(request))


@require_POST
@act
def task_skip(request: PageRequest, task_id: UUID) -> HttpResponse:
    """Leave a task out."""
    found = _task(request, task_id)
    steering.skip_task(found, result=_result(request), by=_by(request), now=timezone.now())
    messages.success(request, f"“{found.title}” is left out.")
    return redirect(came_from(request))


@require_POST
@act
def task_reassign(request: PageRequest, task_id: UUID) -> HttpResponse:
    """Give a task to another role."""
    found = _task(request, task_id)
    steering.reassign_task(found, request.POST.get("role", ""), by=_by(request), now=timezone.now())
    messages.success(request, f"“{found.title}” is done by another role now.")
    return redirect(came_from(request))


def _by(request: PageRequest) -> Actor:
    return Actor.person(request.user)


def _execution(execution_id: UUID) -> Execution:
    found = Execution.objects.select_related("workflow", "project").filter(pk=execution_id).first()
    if found is None:
        raise Http404("There is no such execution.")
    return found


def _task(request: PageRequest, task_id: UUID) -> Task:
    found = Task.objects.select_related("project").filter(pk=task_id).first()
    if found is None:
        raise Http404("There is no such task.")
    permissions.check_can_work(request.user)
    return found


def _result(request: PageRequest) -> dict[str, Any] | None:
    """Return the result that was typed for what is left out, if any. Raises InvalidExecution."""
    text = request.POST.get("result", "").strip()
    if not text:
        return None
    try:
        found = json.loads(text) if len(text) <= MAX_RESULT_CHARS else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidExecution('The result must be a JSON object, such as {"passed": true}.')
    return found
