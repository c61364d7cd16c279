"""The trail: what happened, by whom, in order; of one project and of all."""

from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_GET

from projects import pages
from projects.models import AuditChain, AuditLog
from projects.models.audit import ACCOUNT_CHAIN
from projects.views.project import tab
from projects.web import Page, PageRequest, asked_for, get_project, page_of, render_page

SUBJECTS = ("project", "task", "run", "approval", "plan", "demo", "agent", "budget", "chat", "notification")


@require_GET
def audit(request: PageRequest) -> HttpResponse:
    """Everything, newest first."""
    action, actor = _filters(request)
    page = _page(request, None, action, actor)
    context = {
        "page": page,
        "rows": pages.with_projects(page.items),
        "action": action,
        "actor": actor,
        "subjects": SUBJECTS,
        "chain": AuditChain.objects.filter(pk=ACCOUNT_CHAIN).first(),
    }
    return render_page(request, "projects/audit.html", context)


@require_GET
def project_audit(request: PageRequest, project_id: UUID) -> HttpResponse:
    """What happened in one project."""
    project = get_project(project_id)
    action, actor = _filters(request)
    page = _page(request, project.pk, action, actor)
    context = tab(
        request,
        project,
        "project_audit",
        page=page,
        rows=[(row, None) for row in page.items],
        action=action,
        actor=actor,
        subjects=SUBJECTS,
        chain=AuditChain.objects.filter(pk=str(project.pk)).first(),
    )
    return render_page(request, "projects/project_audit.html", context)


def _filters(request: PageRequest) -> tuple[str, str]:
    return asked_for(request, "action", max_chars=64), asked_for(request, "actor", max_chars=150)


def _page(request: PageRequest, project_id: UUID | None, action: str, actor: str) -> Page[AuditLog]:
    keys = ("timestamp", "id") if project_id is None else ("seq",)
    return page_of(pages.audit_rows(project_id, action=action, actor=actor), request, keys=keys)
