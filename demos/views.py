"""Demos: what can be opened, how long, what was said. Deciding is the inbox's (`projects.views.approvals`)."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from demos import actions, permissions
from demos.addresses import new_token
from demos.errors import CannotExtend
from demos.forms import ExtendForm, RemarkForm
from demos.models import Demo
from demos.queries import is_open
from projects.actors import Actor
from projects.models import Approval, Project
from projects.permissions import check_can_work
from projects.queries import open_approvals
from projects.states import ApprovalKind
from projects.views.approvals import Refused, decide
from projects.views.project import tab
from projects.web import PageRequest, act, get_project, refusal, render_page

_CHECKS = {
    "extend": permissions.check_can_extend,
    "close": permissions.check_can_close,
    "readdress": permissions.check_can_readdress,
    "remark": permissions.check_can_remark,
}


@require_GET
def project_demos(request: PageRequest, project_id: UUID) -> HttpResponse:
    """The demos of a project, newest first; one of them is open beside its decision."""
    project = get_project(project_id)
    return _page(request, project, request.GET.get("demo", ""), RemarkForm())


def _page(
    request: PageRequest,
    project: Project,
    chosen: str,
    remark: RemarkForm,
    *,
    error: Refused | None = None,
    status: int = 200,
) -> HttpResponse:
    demos = list(Demo.objects.filter(project=project).prefetch_related("remarks__user").order_by("-demo_number"))
    shown = next((demo for demo in demos if str(demo.demo_number) == chosen), demos[0] if demos else None)
    context = tab(request, project, "project_demos", demos=demos, demo=shown, **_about(request, shown))
    context |= {"remark": remark, "error": error, "typed": request.POST}
    status = error.status if error else status
    return render_page(request, "demos/project_demos.html", context, status=status)


def _about(request: PageRequest, shown: Demo | None) -> dict[str, Any]:
    """Return what the page knows of the demo that it shows."""
    if shown is None:
        return {}
    return {
        "asked": open_approvals().filter(kind=ApprovalKind.DEMO, subject_id=shown.pk).first(),
        "decide_refusal": refusal(check_can_work, request.user),
        "is_open": is_open(shown, timezone.now()),
        "extend": ExtendForm(),
        "may": {verb: refusal(check, request.user, shown) for verb, check in _CHECKS.items()},
    }


def _demo(project_id: UUID, number: int) -> Demo:
    demo = Demo.objects.select_related("project").filter(project=project_id, demo_number=number).first()
    if demo is None:
        raise Http404("There is no such demo.")
    return demo


def _back(demo: Demo) -> HttpResponse:
    return redirect(f"{reverse('project_demos', args=[demo.project_id])}?demo={demo.demo_number}")


@require_POST
@act
def demo_extend(request: PageRequest, project_id: UUID, number: int) -> HttpResponse:
    """Show a demo for longer; an expired one opens again."""
    demo = _demo(project_id, number)
    permissions.check_can_extend(request.user, demo)
    form = ExtendForm(request.POST)
    if not form.is_valid():
        raise CannotExtend(f"Say by how many days, 1 to {actions.MAX_EXTENSION_DAYS}.")
    actions.extend_demo(demo, days=form.cleaned_data["days"], now=timezone.now(), by=Actor.person(request.user))
    return _back(demo)


@require_POST
@act
def demo_close(request: PageRequest, project_id: UUID, number: int) -> HttpResponse:
    """Have the demo's address answer no more."""
    demo = _demo(project_id, number)
    permissions.check_can_close(request.user, demo)
    actions.revoke_demo(demo, now=timezone.now(), by=Actor.person(request.user))
    return _back(demo)


@require_POST
@act
def demo_readdress(request: PageRequest, project_id: UUID, number: int) -> HttpResponse:
    """Have the demo answer at a new address, and the old one no more."""
    demo = _demo(project_id, number)
    permissions.check_can_readdress(request.user, demo)
    actions.revoke_demo(demo, new_token=new_token(), now=timezone.now(), by=Actor.person(request.user))
    return _back(demo)


@require_POST
@act
def demo_decide(request: PageRequest, project_id: UUID, number: int) -> HttpResponse:
    """Approve a demo, ask for changes or reject it, beside its preview; a refusal is shown there as well."""
    check_can_work(request.user)
    demo = _demo(project_id, number)
    asked = Approval.objects.select_related("project", "task", "decided_by")
    found = asked.filter(kind=ApprovalKind.DEMO, subject_id=demo.pk).order_by("-created_at").first()
    if found is None:
        raise Http404("Nothing was asked about this demo.")

    def show(refused: Refused) -> HttpResponse:
        return _page(request, demo.project, str(number), RemarkForm(), error=refused)

    return decide(request, found, show)


@require_POST
@act
def demo_remark(request: PageRequest, project_id: UUID, number: int) -> HttpResponse:
    """Say something about a demo without deciding it."""
    demo = _demo(project_id, number)
    permissions.check_can_remark(request.user, demo)
    form = RemarkForm(request.POST)
    if not form.is_valid():
        return _page(request, demo.project, str(number), form, status=422)
    actions.give_feedback(demo, form.cleaned_data["remark"], by=Actor.person(request.user), now=timezone.now())
    return _back(demo)
