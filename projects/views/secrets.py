"""Secrets of a project and of the account: which there are, a form that replaces one, and no way to see one."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_POST
from pydantic import SecretStr

from projects.actions.secrets import remove_secret, set_secret
from projects.actors import Actor
from projects.errors import InvalidSecret
from projects.forms import SecretForm
from projects.models import Project, Secret
from projects.permissions import check_can_administer
from projects.secrets import MODEL_KEY
from projects.views.project import tab
from projects.web import PageRequest, act, get_project, refusal, render_page


@require_GET
def secrets(request: PageRequest) -> HttpResponse:
    """The account's secrets."""
    return _page(request, None, SecretForm(initial={"name": MODEL_KEY}))


@require_GET
def project_secrets(request: PageRequest, project_id: UUID) -> HttpResponse:
    """A project's secrets."""
    return _page(request, get_project(project_id), SecretForm(initial={"name": MODEL_KEY}))


@sensitive_post_parameters("value")
@require_POST
@act
def secret_set(request: PageRequest) -> HttpResponse:
    """Set one of the account's."""
    return _set(request, None)


@sensitive_post_parameters("value")
@require_POST
@act
def project_secret_set(request: PageRequest, project_id: UUID) -> HttpResponse:
    """Set one of a project's."""
    return _set(request, get_project(project_id))


@require_POST
@act
def secret_remove(request: PageRequest, secret_id: UUID) -> HttpResponse:
    """Forget a secret."""
    check_can_administer(request.user)
    found = Secret.objects.filter(pk=secret_id).first()
    if found is None:
        raise Http404("There is no such secret.")
    project_id = found.project_id
    remove_secret(found, by=Actor.person(request.user), now=timezone.now())
    messages.success(request, f"{found.name} is removed.")
    return redirect(*_address(project_id))


@sensitive_variables()
def _set(request: PageRequest, project: Project | None) -> HttpResponse:
    check_can_administer(request.user)
    form = SecretForm(request.POST)
    if not form.is_valid():
        return _page(request, project, form, status=422)
    value = SecretStr(form.cleaned_data["value"])
    try:
        kept = set_secret(project, form.cleaned_data["name"], value, by=Actor.person(request.user), now=timezone.now())
    except InvalidSecret as error:
        form.add_error(None, str(error))
        return _page(request, project, form, status=422)
    messages.success(request, f"{kept.name} is kept, encrypted. It is not shown again.")
    return redirect(*_address(kept.project_id))


def _address(project_id: UUID | None) -> tuple[Any, ...]:
    return ("project_secrets", project_id) if project_id else ("secrets",)


def _page(request: PageRequest, project: Project | None, form: SecretForm, *, status: int = 200) -> HttpResponse:
    found = Secret.objects.filter(project=project).select_related("changed_by").defer("value").order_by("name")
    context: dict[str, Any] = {
        "secrets": list(found),
        "form": form,
        "secrets_refused": refusal(check_can_administer, request.user),
        "model_key": MODEL_KEY,
    }
    if project is None:
        return render_page(request, "projects/secrets.html", context, status=status)
    context |= tab(request, project, "project_money")
    return render_page(request, "projects/project_secrets.html", context, status=status)
