"""The first page, and the list of projects."""

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import pages
from projects.actions.chat import mark_read
from projects.actions.projects import NewProject, create_project
from projects.actors import Actor
from projects.briefs import SAMPLE_BRIEF
from projects.errors import InvalidBrief
from projects.forms import BriefForm
from projects.models import Notification, Project
from projects.permissions import check_can_fund, check_can_work
from projects.queries import open_approvals, unread_notifications
from projects.states import ACTIVE_PROJECT, ProjectStatus
from projects.web import PageRequest, act, asked_for, page_of, refusal, render_page

_OPEN = [*ACTIVE_PROJECT, ProjectStatus.PAUSED]
_FILTERS: dict[str, tuple[str, list[str]]] = {
    "open": ("Open", [str(status) for status in _OPEN]),
    "delivered": ("Delivered", [ProjectStatus.COMPLETE.value]),
    "put-away": ("Put away", [ProjectStatus.ARCHIVED.value, ProjectStatus.CANCELLED.value]),
}


@require_GET
def home(request: PageRequest) -> HttpResponse:
    """Composer first; then what needs the reader, what runs, what was finished."""
    return _home(request, BriefForm())


@require_http_methods(["POST"])
@act
def project_new(request: PageRequest) -> HttpResponse:
    """Start a project from a brief."""
    check_can_work(request.user)
    form = BriefForm(request.POST)
    if form.is_valid():
        data = form.cleaned_data
        check_can_fund(request.user, data["budget_limit"])
        draft = NewProject(data["brief"], data["name"], data["client_name"], data["budget_limit"])
        try:
            project = create_project(draft, by=Actor.person(request.user), now=timezone.now())
        except InvalidBrief as error:
            form.add_error("brief", str(error))
        else:
            return redirect("project", project.pk)
    return _home(request, form, status=422)


def _home(request: PageRequest, form: BriefForm, *, status: int = 200) -> HttpResponse:
    finished = list(pages.recently_finished())
    running = list(pages.running_tasks())
    context = {
        "form": form,
        "work_refusal": refusal(check_can_work, request.user),
        "sample": SAMPLE_BRIEF,
        "approvals": list(open_approvals()[:12]),
        "news": list(unread_notifications().exclude(level=Notification.Level.ACTION)[:6]),
        "running": running,
        "finished": finished,
        "is_new": not (finished or running or Project.objects.exists()),
    }
    return render_page(request, "projects/home.html", context, status=status)


@require_POST
@act
def news_read(request: PageRequest) -> HttpResponse:
    """Put the news away."""
    check_can_work(request.user)
    mark_read(by=Actor.person(request.user), now=timezone.now())
    return redirect("home")


@require_GET
def projects(request: PageRequest) -> HttpResponse:
    """All projects, newest first."""
    chosen = request.GET.get("show", "")
    found: QuerySet[Project] = Project.objects.all()
    if chosen in _FILTERS:
        found = found.filter(status__in=_FILTERS[chosen][1])
    if text := asked_for(request, "q", max_chars=100):
        found = found.filter(name__icontains=text)
    page = page_of(found, request, size=30)
    context = {
        "page": page,
        "rows": pages.rows(page.items),
        "filters": [("", "All")] + [(key, label) for key, (label, _) in _FILTERS.items()],
        "chosen": chosen,
        "text": text,
        "currency": settings.EKLAVYA_CURRENCY,
    }
    return render_page(request, "projects/list.html", context)
