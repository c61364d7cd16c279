"""The inbox: what needs a person, one at a time, and what was decided."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from projects import pages
from projects.actions import approvals as actions
from projects.actors import Actor
from projects.errors import DomainError, InvalidDecision, NotAllowed
from projects.forms import DecisionForm
from projects.models import Approval, Plan
from projects.permissions import check_can_decide
from projects.queries import open_approvals
from projects.refused import note_error
from projects.states import ApprovalKind, ApprovalStatus
from projects.web import Page, PageRequest, page_of, refusal, render_page

_DECIDED = "decided"
INBOX_SIZE = 100


@require_GET
def approvals(request: PageRequest) -> HttpResponse:
    """What waits, oldest first; the first of it is shown whole."""
    if request.GET.get("show") == _DECIDED:
        return _decided(request)
    waiting = list(open_approvals()[:INBOX_SIZE])
    return _render(request, waiting, waiting[0] if waiting else None)


@require_http_methods(["GET", "POST"])
def approval(request: PageRequest, approval_id: UUID) -> HttpResponse:
    """One decision: GET shows it, POST takes it."""
    found = Approval.objects.select_related("project", "task", "decided_by").filter(pk=approval_id).first()
    if found is None:
        raise Http404("There is no such decision.")
    if request.method == "POST":
        return decide(request, found, partial(_show_refused, request, found))
    return _render(request, list(open_approvals()[:INBOX_SIZE]), found)


@dataclass(frozen=True)
class Refused:
    """Why a decision was not taken. `field` is the form's field that is wrong, where it is one."""

    text: str
    field: str
    status: int


def decide(request: PageRequest, found: Approval, show: Callable[[Refused], HttpResponse]) -> HttpResponse:
    """Take the decision that a form sent; `show` renders the page of that form again when it is refused."""
    form = DecisionForm(request.POST, approval=found)
    try:
        check_can_decide(request.user, found)
        if not form.is_valid():
            raise _wrong(form)
        decision = actions.Decision(form.cleaned_data["option"], form.cleaned_data["comment"], form.answers)
        actions.decide(found.pk, decision, by=Actor.person(request.user), now=timezone.now())
    except NotAllowed as error:
        note_error(request, error)
        raise PermissionDenied(str(error)) from error
    except DomainError as error:
        note_error(request, error)
        # What was typed stays; what changed meanwhile shows.
        found.refresh_from_db()
        if isinstance(error, InvalidDecision):
            return show(Refused(str(error), error.field, 422))
        return show(Refused(str(error), "", 409))
    following = open_approvals().first()
    if following is not None and request.POST.get("stay"):
        return redirect("approval", following.pk)
    return redirect("project", found.project_id)


def _show_refused(request: PageRequest, found: Approval, refused: Refused) -> HttpResponse:
    return _render(request, list(open_approvals()[:INBOX_SIZE]), found, error=refused)


def _wrong(form: DecisionForm) -> InvalidDecision:
    if "option" in form.errors:
        return InvalidDecision("Choose one of the buttons.")
    name = next(iter(form.errors))
    limit = getattr(form.fields[name], "max_length", 0)
    what = "comment" if name == "comment" else "answer"
    text = f"The {what} cannot be used: write at most {limit:,} characters of text."
    return InvalidDecision(text, field=name if name == "comment" else "")


def _render(
    request: PageRequest,
    waiting: list[Approval],
    found: Approval | None,
    *,
    error: Refused | None = None,
) -> HttpResponse:
    context: dict[str, Any] = {
        "waiting": waiting,
        "approval": found,
        "error": error,
        "tabs": _tabs(""),
        "is_one": "approval_id" in _kwargs(request),
    }
    if found is not None:
        context |= _subject(found) | {
            "refused": refusal(check_can_decide, request.user, found),
            "options": _options(found),
            "typed": request.POST,
        }
    return render_page(request, "projects/approvals.html", context, status=error.status if error else 200)


def _kwargs(request: PageRequest) -> dict[str, Any]:
    return request.resolver_match.kwargs if request.resolver_match else {}


def _options(found: Approval) -> list[dict[str, Any]]:
    """Return the buttons: the recommended first and strongest, the one that ends something in red."""
    looks = {ApprovalStatus.APPROVED: "btn--primary", ApprovalStatus.REJECTED: "btn--danger"}
    return [
        {
            "value": option.value,
            "label": option.label,
            "needs_comment": option.needs_comment,
            "css": looks.get(option.status, ""),
            "is_recommended": option.value == found.recommended,
        }
        for option in actions.OPTIONS[ApprovalKind(found.kind)]
    ]


def _subject(found: Approval) -> dict[str, Any]:
    """Return what is decided, as far as this app knows it; the rest is a link."""
    if found.kind == ApprovalKind.BUDGET:
        return {"suggested_limit": (found.project.budget_limit * 2).quantize(Decimal("0.01"))}
    if found.kind != ApprovalKind.PLAN:
        return {}
    plan = Plan.objects.filter(pk=found.subject_id).first()
    return {"plan": plan, "graph": pages.plan_graph(plan)} if plan else {}


def _decided(request: PageRequest) -> HttpResponse:
    done = Approval.objects.filter(decided_at__isnull=False).select_related("project", "decided_by")
    page: Page[Approval] = page_of(done, request, keys=("decided_at", "id"))
    context = {"page": page, "tabs": _tabs(_DECIDED), "is_decided": True}
    return render_page(request, "projects/approvals_decided.html", context)


def _tabs(current: str) -> list[pages.Tab]:
    inbox = reverse("approvals")
    return [
        pages.Tab("Needs you", inbox, current == ""),
        pages.Tab("Decided", f"{inbox}?show={_DECIDED}", current == _DECIDED),
    ]
