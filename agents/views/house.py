"""The house: tasks, agents."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.views.decorators.http import require_GET

from agents import pages
from projects.models import Task
from projects.web import PageRequest, page_of, render_page


@require_GET
def task(request: PageRequest, task_id: UUID) -> HttpResponse:
    """A task: what it asks, what it waits for, every attempt at it."""
    found = Task.objects.select_related("project", "plan").filter(pk=task_id).first()
    if found is None:
        raise Http404("There is no such task.")
    context = {"detail": pages.task_detail(found), "task": found, "project": found.project}
    return render_page(request, "agents/task.html", context)


@require_GET
def agents(request: PageRequest) -> HttpResponse:
    """Everybody at work or at hand, newest squads first."""
    page = page_of(pages.squad(), request)
    current, faked = pages.current_runs(page.items), pages.rehearsed(page.items)
    context = {
        "page": page,
        "rows": [(agent, current.get(agent.pk), agent.pk in faked) for agent in page.items],
        "running": list(pages.active_runs()),
    }
    return render_page(request, "agents/agents.html", context)
