"""The role table, and the specialisations that an admin makes of it."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from agents import pages
from agents.actions.specialisations import make_specialisation, specialise_agent, specialise_member
from agents.errors import InvalidSpecialisation
from agents.forms import SpecialisationForm, SpecialiseForm
from agents.models import Agent
from agents.roles import shown
from agents.roles.of_runs import known_specialisations
from projects.actors import Actor
from projects.models import SquadMember
from projects.permissions import check_can_administer
from projects.refused import is_valid, note_error
from projects.roles import Role
from projects.web import PageRequest, act, refusal, render_page


@require_GET
def roles(request: PageRequest) -> HttpResponse:
    """What each role may do, and each specialisation."""
    return _page(request, SpecialisationForm())


@require_POST
@act
def new_specialisation(request: PageRequest) -> HttpResponse:
    """Make a specialisation."""
    check_can_administer(request.user)
    form = SpecialisationForm(request.POST)
    if not is_valid(request, form):
        return _page(request, form, status=422)
    given = form.cleaned_data
    try:
        make_specialisation(
            given["name"],
            Role(given["base"]),
            given["narrowing"],
            about=given["about"],
            by=Actor.person(request.user),
            now=timezone.now(),
        )
    except InvalidSpecialisation as error:
        note_error(request, error)
        form.add_error(None, str(error))
        return _page(request, form, status=422)
    return redirect("roles")


@require_POST
@act
def specialise(request: PageRequest) -> HttpResponse:
    """Give an agent a specialisation, or take it away."""
    to, key = _given(request)
    agent = get_object_or_404(Agent, pk=to)
    specialise_agent(agent, key, by=Actor.person(request.user), now=timezone.now())
    return redirect("roles")


@require_POST
@act
def specialise_squad(request: PageRequest) -> HttpResponse:
    """Give all agents of a role in a squad a specialisation, or take it away."""
    to, key = _given(request)
    member = get_object_or_404(SquadMember.objects.select_related("squad"), pk=to)
    specialise_member(member, key, by=Actor.person(request.user), now=timezone.now())
    return redirect("roles")


def _given(request: PageRequest) -> tuple[UUID, str]:
    check_can_administer(request.user)
    form = SpecialiseForm(request.POST)
    if not form.is_valid():
        raise InvalidSpecialisation("Choose who gets it, and a specialisation.")
    return form.cleaned_data["to"], form.cleaned_data["specialisation"]


def _page(request: PageRequest, form: SpecialisationForm, *, status: int = 200) -> HttpResponse:
    known = known_specialisations()
    rows = [
        (item.is_built_in, shown.row_of(item.of.name, item.of.policy, base=item.of.base.label, about=item.of.about))
        for item in known
    ]
    context = {
        "columns": shown.COLUMNS,
        "roles": shown.role_rows(),
        "specialisations": rows,
        "choices": [(item.key, f"{item.of.name} ({item.of.base.label})") for item in known],
        "agents": list(pages.squad().order_by("project__name", "name")[:200]),
        "members": list(pages.squad_members()[:200]),
        "form": form,
        "refusal": refusal(check_can_administer, request.user),
    }
    return render_page(request, "agents/roles.html", context, status=status)
