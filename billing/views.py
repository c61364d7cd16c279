"""Money: a project's, and the whole house's."""

from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from billing import levels, pages
from billing.actions import raise_limit, set_limit
from billing.errors import InvalidLimit
from billing.forms import LevelLimitForm, LimitForm
from billing.models import Budget
from projects.actors import Actor
from projects.permissions import check_can_administer
from projects.views.project import tab
from projects.web import PageRequest, act, get_project, page_of, refusal, render_page

CENT = Decimal("0.01")


@require_GET
def project_money(request: PageRequest, project_id: UUID) -> HttpResponse:
    """A project's budget and every line of its ledger."""
    project = get_project(project_id)
    context = tab(
        request,
        project,
        "project_money",
        money=pages.money_of(project),
        total=pages.total(project.pk),
        by_model=pages.by_model(project.pk),
        page=page_of(pages.lines(project.pk), request),
        limit_refusal=refusal(check_can_administer, request.user),
        levels=levels.of_project(project),
        history=levels.history_of_project(project),
        form=LimitForm(initial={"limit": project.budget_limit.quantize(CENT)}),
    )
    return render_page(request, "billing/project_money.html", context)


@require_POST
@act
def project_limit(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Set the project's limit."""
    check_can_administer(request.user)
    form = LimitForm(request.POST)
    if not form.is_valid():
        raise InvalidLimit
    raise_limit(
        get_project(project_id),
        form.cleaned_data["limit"],
        by=Actor.person(request.user),
        now=timezone.now(),
    )
    return redirect("project_money", project_id)


@require_GET
def budget(request: PageRequest) -> HttpResponse:
    """What the house may spend and has spent."""
    by_model = pages.by_model()
    context = {
        "money": pages.account_money(settings.EKLAVYA_ACCOUNT_LIMIT, settings.EKLAVYA_CURRENCY),
        "bars": pages.daily(timezone.now()),
        "chart": {"width": pages.CHART_W, "height": pages.CHART_H},
        "by_model": by_model,
        "is_simulated": all(share.simulated for share in by_model),
        "by_project": pages.by_project(),
        "total": pages.total(),
        "levels": levels.of_account(),
        "history": levels.history_of_account(),
        "limit_refusal": refusal(check_can_administer, request.user),
        "currency": settings.EKLAVYA_CURRENCY,
    }
    return render_page(request, "billing/budget.html", context)


@require_POST
@act
def budget_limit(request: PageRequest, budget_id: UUID) -> HttpResponse:
    """Set the limit of a level, or take it away."""
    check_can_administer(request.user)
    budget = Budget.objects.filter(pk=budget_id).exclude(scope=Budget.Scope.RUN).first()
    if budget is None:
        raise Http404("There is no such budget.")
    form = LevelLimitForm(request.POST)
    if not form.is_valid():
        raise InvalidLimit("A limit is a number above 0, such as 40 or 37.50.")
    set_limit(budget, form.cleaned_data["limit"], by=Actor.person(request.user), now=timezone.now())
    return redirect("project_money", budget.project_id) if budget.project_id else redirect("budget")
