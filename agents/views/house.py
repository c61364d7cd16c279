"""The house: tasks, agents."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from agents import pages
from agents.waiting import why_waiting
from projects.actions.steering import STEERED
from projects.models import Task
from projects.pages import roles_of
from projects.permissions import check_can_work
from projects.states import OPEN_TASK, TaskStatus
from projects.web import PageRequest, page_of, refusal, render_page

STEERABLE = OPEN_TASK | {TaskStatus.FAILED}


@require_GET
def task(request: PageRequest, task_id: UUID) -> HttpResponse:
    """A task: what it asks, what it waits for, every attempt at it."""
    found = Task.objects.select_related("project", "plan", "parent").filter(pk=task_id).first()
    if found is None:
        raise Http404("There is no such task.")
    can_work = not refusal(check_can_work, request.user)
    can_steer = can_work and (found.status == "blocked" or (found.kind in STEERED and found.status in STEERABLE))
    context = {
        "detail": pages.task_detail(found),
        "waiting": why_waiting(found, now=timezone.now()),
        "task": found,
        "project": found.project,
        "roles": roles_of(found.project) if can_steer else [],
    }
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
