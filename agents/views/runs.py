"""Runs: a project's list, and one run live."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agents import pages
from agents.models import Run
from agents.states import ACTIVE_RUN, RunStatus
from projects.views.project import tab
from projects.web import PageRequest, get_project, page_of, render_page

_FAILED = [RunStatus.FAILED, RunStatus.LOST, RunStatus.OVER_BUDGET]
_FILTERS = {"": "All", "active": "Active", "failed": "Failed"}


@require_GET
def project_runs(request: PageRequest, project_id: UUID) -> HttpResponse:
    """The runs of a project, newest first."""
    project = get_project(project_id)
    chosen = request.GET.get("show", "")
    found = pages.runs_of(project.pk)
    if chosen == "active":
        found = found.filter(status__in=ACTIVE_RUN)
    elif chosen == "failed":
        found = found.filter(status__in=_FAILED)
    context = tab(
        request, project, "project_runs", page=page_of(found, request), filters=_FILTERS.items(), chosen=chosen
    )
    return render_page(request, "agents/project_runs.html", context)


@require_GET
def run(request: PageRequest, run_id: UUID) -> HttpResponse:
    """A run with its transcript. `?after=` gives the lines since then, `?before=` those that led up to it.

    `?show=egress` gives the hosts that it asked for instead, in pages.
    """
    found = Run.objects.select_related("project", "task", "agent__member", "worker").filter(pk=run_id).first()
    if found is None:
        raise Http404("There is no such run.")
    if request.GET.get("show") == "egress":
        page = page_of(found.egress.all(), request, keys=("first_at", "id"))
        return render_page(request, "agents/run_egress.html", {"run": found, "project": found.project, "page": page})
    if "after" in request.GET or "before" in request.GET:
        return _lines(request, found)
    checks = list(pages.checks_of(found)[:5])
    context = {"run": found, "project": found.project, "checks": checks, "reached": pages.reached_by(found)}
    if not request.htmx:
        context["transcript"] = pages.tail(found)
    return render_page(request, "agents/run.html", context)


def _lines(request: PageRequest, found: Run) -> HttpResponse:
    name = "after" if "after" in request.GET else "before"
    if not (seq := request.GET[name]).isdecimal() or len(seq) > 18:
        raise Http404("There is no such line.")
    stretch = pages.after(found, int(seq)) if name == "after" else pages.before(found, int(seq))
    template = "agents/_tail.html" if name == "after" else "agents/_earlier.html"
    context = {"run": found, "transcript": stretch, "last_seq": stretch.last_seq or int(seq)}
    return render(request, template, context)
