"""What happens with a project's decisions that nobody takes in time: shown to all, chosen by admins."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from projects import defaults
from projects.actions.approvals import choose_without_answer
from projects.actors import Actor
from projects.permissions import check_can_administer
from projects.views.project import tab
from projects.web import PageRequest, act, get_project, refusal, render_page


@require_http_methods(["GET", "POST"])
@act
def without_answer(request: PageRequest, project_id: UUID) -> HttpResponse:
    """GET shows what happens by itself to each kind of decision; POST chooses anew for those that it names."""
    project = get_project(project_id)
    if request.method == "POST":
        check_can_administer(request.user)
        chosen = {kind: request.POST[kind.value] for kind in defaults.RULES if kind.value in request.POST}
        choose_without_answer(project, chosen, by=Actor.person(request.user), now=timezone.now())
        messages.success(request, "Chosen, for what waits already too.")
        return redirect("without_answer", project.pk)
    rows = [
        {
            "kind": kind.value,
            "label": kind.label,
            "why": rule.why,
            "now": defaults.LABELS[defaults.without_answer(project, kind)],
            "choices": [
                (option, defaults.LABELS[option], option == defaults.without_answer(project, kind))
                for option in rule.choices
            ],
        }
        for kind, rule in defaults.RULES.items()
    ]
    context = tab(request, project, "project", rows=rows, choose_refused=refusal(check_can_administer, request.user))
    return render_page(request, "projects/without_answer.html", context)
