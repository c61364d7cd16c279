"""Settings for admins: who is in, with which role, and the keys of programs."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import actions
from accounts.errors import AccountError
from accounts.lock_outs import clear_lock_outs, lock_outs
from accounts.models import ApiKey
from accounts.roles import RIGHTS, AccountRole, role_of
from accounts.scopes import Scope
from eklavya.login_links import INVITATION, make_link
from projects.errors import NotAllowed
from projects.models import Project
from projects.permissions import check_can_administer
from projects.web import PageRequest, render_page

P = ParamSpec("P")
SHOWN = 500
_LIVES = ((30, "30 days"), (90, "90 days"), (365, "a year"), (0, "until it is revoked"))


class InviteForm(forms.Form):
    """A new person."""

    username = forms.CharField(max_length=150)
    email = forms.EmailField(required=False)
    role = forms.ChoiceField(choices=AccountRole.choices, initial=AccountRole.OPERATOR)


class RoleForm(forms.Form):
    """Another role."""

    role = forms.ChoiceField(choices=AccountRole.choices)


class KeyForm(forms.Form):
    """A new key."""

    name = forms.CharField(max_length=100, help_text="The program that will use it.")
    owner = forms.ModelChoiceField(
        User.objects.filter(is_active=True).order_by("username"),
        label="Acts as",
        help_text="The key never does more than this person's role allows.",
    )
    project = forms.ModelChoiceField(
        Project.objects.order_by("-created_at"), required=False, empty_label="All projects", label="For"
    )
    days = forms.TypedChoiceField(choices=_LIVES, coerce=int, initial=90, label="Lives")
    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)


def for_admins(
    view: Callable[Concatenate[PageRequest, P], HttpResponse],
) -> Callable[Concatenate[PageRequest, P], HttpResponse]:
    """Refuse everybody else with a 403 in a sentence; what an action refuses becomes a message on the page."""

    @never_cache
    @wraps(view)
    def wrapped(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        try:
            check_can_administer(request.user)
            return view(request, *args, **kwargs)
        except NotAllowed as error:
            raise PermissionDenied(str(error)) from error
        except AccountError as error:
            messages.error(request, str(error))
            return redirect("api_keys" if "key_id" in kwargs else "people")

    return wrapped


@require_http_methods(["GET", "POST"])
@for_admins
def people(request: PageRequest) -> HttpResponse:
    """Everybody, and inviting somebody: POST makes an account and shows its first sign-in link once."""
    if request.method != "POST":
        return _people(request, InviteForm())
    form = InviteForm(request.POST)
    if form.is_valid():
        data = form.cleaned_data
        role = AccountRole(data["role"])
        try:
            made = actions.add_person(
                data["username"], email=data["email"], role=role, by=request.user, now=timezone.now()
            )
        except AccountError as error:
            form.add_error(None, str(error))
        else:
            return _people(request, InviteForm(), invited=made, link=make_link(made, lives=INVITATION))
    return _people(request, form, status=422)


def _people(request: PageRequest, form: InviteForm, *, status: int = 200, **more: Any) -> HttpResponse:
    with_factor = set(Authenticator.objects.exclude(type="recovery_codes").values_list("user_id", flat=True))
    locked = lock_outs(timezone.now())
    found = User.objects.select_related("member").order_by("-is_active", "username")[:SHOWN]
    context = {
        "rows": [
            {
                "person": person,
                "role": AccountRole.ADMIN if person.is_superuser else (role_of(person) or _kept_role(person)),
                "has_factor": person.pk in with_factor,
                "locked": [one for one in locked if one.username == person.username.lower()],
            }
            for person in found
        ],
        "roles": [(role, role.label, RIGHTS[role]) for role in AccountRole],
        "form": form,
        "days": INVITATION.days,
        **more,
    }
    return render_page(request, "accounts/people.html", context, status=status)


def _kept_role(person: User) -> AccountRole:
    """Return the role that somebody who is switched off would have."""
    member = getattr(person, "member", None)
    return AccountRole(member.role) if member else AccountRole.VIEWER


def _person(user_id: int) -> User:
    found = User.objects.filter(pk=user_id).first()
    if found is None:
        raise Http404("There is no such person.")
    return found


@require_POST
@for_admins
def person_role(request: PageRequest, user_id: int) -> HttpResponse:
    """Give a person another role."""
    form = RoleForm(request.POST)
    if not form.is_valid():
        raise AccountError("Choose one of the roles.")
    actions.set_role(_person(user_id), AccountRole(form.cleaned_data["role"]), by=request.user, now=timezone.now())
    return redirect("people")


@require_POST
@for_admins
def person_off(request: PageRequest, user_id: int) -> HttpResponse:
    """Close an account."""
    actions.switch_off(_person(user_id), by=request.user, now=timezone.now())
    return redirect("people")


@require_POST
@for_admins
def person_on(request: PageRequest, user_id: int) -> HttpResponse:
    """Open an account again."""
    actions.switch_on(_person(user_id), by=request.user, now=timezone.now())
    return redirect("people")


@require_POST
@for_admins
def person_unlock(request: PageRequest, user_id: int) -> HttpResponse:
    """Let a person who is locked out try again."""
    clear_lock_outs(_person(user_id), by=request.user, now=timezone.now())
    return redirect("people")


@require_http_methods(["GET", "POST"])
@for_admins
def api_keys(request: PageRequest) -> HttpResponse:
    """All keys, and making one: POST shows its text, this once."""
    if request.method != "POST":
        return _keys(request, KeyForm(initial={"owner": request.user.pk}))
    form = KeyForm(request.POST)
    if form.is_valid():
        data = form.cleaned_data
        project: Project | None = data["project"]
        wanted = actions.NewKey(data["name"], data["scopes"], project.pk if project else None, data["days"] or None)
        try:
            made, text = actions.create_key(wanted, owner=data["owner"], by=request.user, now=timezone.now())
        except AccountError as error:
            form.add_error(None, str(error))
        else:
            return _keys(request, KeyForm(initial={"owner": request.user.pk}), made=made, text=text)
    return _keys(request, form, status=422)


def _keys(request: PageRequest, form: KeyForm, *, status: int = 200, **more: Any) -> HttpResponse:
    now = timezone.now()
    keys = list(ApiKey.objects.select_related("owner").order_by("-created_at")[:SHOWN])
    projects = Project.objects.in_bulk({key.project_id for key in keys if key.project_id})
    rows = [(key, projects.get(key.project_id) if key.project_id else None, _state(key, now)) for key in keys]
    return render_page(request, "accounts/keys.html", {"rows": rows, "form": form, **more}, status=status)


def _state(key: ApiKey, now: Any) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "live" if key.is_live(now) else "expired"


@require_POST
@for_admins
def api_key_revoke(request: PageRequest, key_id: int) -> HttpResponse:
    """End a key."""
    found = ApiKey.objects.select_related("owner").filter(pk=key_id).first()
    if found is None:
        raise Http404("There is no such key.")
    actions.revoke_key(found, by=request.user, now=timezone.now())
    return redirect("api_keys")
