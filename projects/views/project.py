"""The tabs of one project that need nothing from higher apps: overview, board, plan; and what a person does to it."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from projects import pages, permissions, queries
from projects.actions import chat
from projects.actions import projects as actions
from projects.actors import Actor
from projects.forms import MessageForm
from projects.models import ChatMessage, Project
from projects.permissions import check_can_write
from projects.states import OVER_PROJECT, PlanStatus
from projects.web import PageRequest, act, get_project, page_of, refusal, render_page

STEPS = 12
"""Tasks of the plan beside the conversation; the plan's own tab has them all."""


def tab(request: PageRequest, project: Project, name: str, **context: Any) -> dict[str, Any]:
    """Return the context of a tab: the page's head with its buttons, and the tab's own."""
    refused = {
        verb: refusal(check, request.user, project)
        for verb, check in (
            ("pause", permissions.check_can_pause),
            ("resume", permissions.check_can_resume),
            ("cancel", permissions.check_can_cancel),
            ("archive", permissions.check_can_archive),
        )
    }
    return {"head": pages.header(project, name), "project": project, "refused": refused, **context}


@require_GET
def project(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Overview: the conversation, and beside it what it led to."""
    return _overview(request, get_project(project_id), MessageForm())


def _overview(request: PageRequest, found: Project, form: MessageForm, *, status: int = 200) -> HttpResponse:
    page = page_of(found.chat.select_related("approval"), request, keys=("id",), size=40)
    messages: list[ChatMessage] = page.items[::-1]
    shown, _ = pages.shown_plan(found, "")
    context = tab(
        request,
        found,
        "project",
        page=page,
        chat=messages,
        form=form,
        is_over=found.status in OVER_PROJECT,
        work_refusal=refusal(permissions.check_can_work, request.user),
        write_refusal=refusal(check_can_write, request.user, found),
        requirements=list(found.requirements.all()),
        plan=shown,
        steps=pages.plan_nodes(shown)[:STEPS] if shown else [],
        progress=queries.progress(found),
        row=pages.rows([found])[0],
    )
    return render_page(request, "projects/overview.html", context, status=status)


@require_POST
@act
def say(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Write to the squad."""
    found = get_project(project_id)
    check_can_write(request.user, found)
    form = MessageForm(request.POST)
    if not form.is_valid():
        return _overview(request, found, form, status=422)
    chat.post_message(found, form.cleaned_data["body"], by=Actor.person(request.user), now=timezone.now())
    return redirect("project", project_id)


@require_GET
def board(request: PageRequest, project_id: UUID) -> HttpResponse:
    """All tasks by state."""
    found = get_project(project_id)
    lanes = pages.board(found)
    total = sum(lane.count for lane in lanes)
    roles = [] if refusal(permissions.check_can_work, request.user) else pages.roles_of(found)
    context = tab(request, found, "project_board", lanes=lanes, total=total, roles=roles)
    return render_page(request, "projects/board.html", context)


@require_GET
def plan(request: PageRequest, project_id: UUID) -> HttpResponse:
    """A plan as a drawing and as a list; the proposed or active one unless `?version=` asks for another."""
    found = get_project(project_id)
    shown, plans = pages.shown_plan(found, request.GET.get("version", ""))
    if shown is None and plans:
        raise Http404("There is no such version of the plan.")
    drawing = pages.plan_graph(shown) if shown else None
    minutes = sum(box.node.estimate_minutes for box in drawing.boxes) if drawing else 0
    is_proposed = shown is not None and shown.status == PlanStatus.PROPOSED
    asked = queries.open_approvals().filter(subject_id=shown.pk).first() if shown and is_proposed else None
    context = tab(request, found, "project_plan", plan=shown, plans=plans, graph=drawing, minutes=minutes, asked=asked)
    return render_page(request, "projects/plan.html", context)


@require_POST
@act
def pause(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Stop starting work; what runs is ended at its next step."""
    found = get_project(project_id)
    permissions.check_can_pause(request.user, found)
    reason = request.POST.get("reason", "").strip()[:400] or f"Paused by {request.user.get_username()}."
    actions.pause_project(found, reason=reason, by=Actor.person(request.user), now=timezone.now())
    return redirect("project", project_id)


@require_POST
@act
def resume(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Go on where the project was paused."""
    found = get_project(project_id)
    permissions.check_can_resume(request.user, found)
    actions.resume_project(found, by=Actor.person(request.user), now=timezone.now())
    return redirect("project", project_id)


@require_POST
@act
def cancel(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Give the project up."""
    found = get_project(project_id)
    permissions.check_can_cancel(request.user, found)
    reason = request.POST.get("reason", "").strip()[:400] or f"Cancelled by {request.user.get_username()}."
    actions.cancel_project(found, reason=reason, by=Actor.person(request.user), now=timezone.now())
    return redirect("project", project_id)


@require_POST
@act
def archive(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Put the project away."""
    found = get_project(project_id)
    permissions.check_can_archive(request.user, found)
    actions.archive_project(found, by=Actor.person(request.user), now=timezone.now())
    return redirect("projects")
