"""The first page, and the list of projects."""

from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import pages
from projects.actions.chat import mark_read
from projects.actions.projects import NewProject, create_project, refuse_brief
from projects.actors import Actor
from projects.briefs import SAMPLE_BRIEF
from projects.errors import InvalidBrief
from projects.forms import BriefForm
from projects.models import Notification, Project
from projects.permissions import check_can_fund, check_can_work
from projects.queries import open_approvals, unread_notifications
from projects.refused import note_form
from projects.states import ACTIVE_PROJECT, ProjectStatus
from projects.web import PageRequest, act, asked_for, page_of, refusal, render_page

DIFFERENT = "What should be different this time:"
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


@require_http_methods(["GET", "POST"])
@act
def project_new(request: PageRequest) -> HttpResponse:
    """GET shows the form, with `?like=` filled in as for that project; POST starts a project from a brief."""
    if request.method == "GET":
        return _home(request, BriefForm(initial=_follow_up(request.GET.get("like", ""))))
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
    elif problems := form.errors.get("brief"):
        given = request.POST.get("brief", "")
        refuse_brief(given, " ".join(map(str, problems)), by=Actor.person(request.user), now=timezone.now())
    else:
        note_form(request, form)
    return _home(request, form, status=422)


def _follow_up(project_id: str) -> dict[str, str]:
    """Return what the form of a project's successor says. Its squad knows nothing of the first but what is in it."""
    try:
        project = Project.objects.get(pk=UUID(project_id))
    except (ValueError, Project.DoesNotExist):
        return {}
    return {"brief": f"{project.description}\n\n{DIFFERENT}\n", "client_name": project.client_name}


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
