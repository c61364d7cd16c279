"""Demos: what can be opened, what was said about it. Deciding is the inbox's (`projects.views.approvals`)."""

from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from demos.models import Demo
from demos.states import DemoStatus
from projects.queries import open_approvals
from projects.states import ApprovalKind
from projects.views.project import tab
from projects.web import PageRequest, get_project, render_page


@require_GET
def project_demos(request: PageRequest, project_id: UUID) -> HttpResponse:
    """The demos of a project, newest first; one of them is open beside its decision."""
    project = get_project(project_id)
    demos = list(Demo.objects.filter(project=project).prefetch_related("remarks__user").order_by("-demo_number"))
    chosen = request.GET.get("demo", "")
    shown = next((demo for demo in demos if str(demo.demo_number) == chosen), demos[0] if demos else None)
    asked = None
    if shown is not None:
        asked = open_approvals().filter(kind=ApprovalKind.DEMO, subject_id=shown.pk).first()
    context = tab(
        request, project, "project_demos", demos=demos, demo=shown, asked=asked, is_open=shown and is_open(shown)
    )
    return render_page(request, "demos/project_demos.html", context)


def is_open(demo: Demo) -> bool:
    """Return whether its preview answers: started, not over, not taken back."""
    shown = demo.status not in {DemoStatus.BUILDING, DemoStatus.EXPIRED, DemoStatus.REJECTED}
    return shown and demo.revoked_at is None and demo.expires_at > timezone.now()
