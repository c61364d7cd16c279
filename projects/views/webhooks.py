"""Webhooks, under Settings: which there are, what was sent to each, and the verbs. For admins."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from projects.actions import webhook_deliveries as deliveries
from projects.actions import webhooks as actions
from projects.actors import Actor
from projects.errors import InvalidWebhook
from projects.forms import ChangeWebhookForm, WebhookForm
from projects.models import WebhookDelivery, WebhookEndpoint
from projects.permissions import check_can_administer
from projects.web import PageRequest, act, page_of, render_page

P = ParamSpec("P")


def for_admins(
    view: Callable[Concatenate[PageRequest, P], HttpResponse],
) -> Callable[Concatenate[PageRequest, P], HttpResponse]:
    """Refuse everybody else: an address may hold a key of its receiver's. What an action refuses becomes a message."""

    @never_cache
    @act
    @wraps(view)
    def wrapped(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        check_can_administer(request.user)
        return view(request, *args, **kwargs)

    return wrapped


@require_http_methods(["GET", "POST"])
@for_admins
@sensitive_variables("secret")
def webhooks(request: PageRequest) -> HttpResponse:
    """All webhooks, and adding one: POST shows its secret, this once."""
    if request.method != "POST":
        return _list(request, WebhookForm())
    form = WebhookForm(request.POST)
    if form.is_valid():
        data = form.cleaned_data
        wanted = actions.NewWebhook(data["url"], data["description"], data["events"], data["project"])
        try:
            made, secret = actions.add_webhook(wanted, by=Actor.person(request.user), now=timezone.now())
        except InvalidWebhook as error:
            form.add_error("url", str(error))
        else:
            return _detail(request, made, secret=secret.get_secret_value(), is_new=True)
    return _list(request, form, status=422)


def _list(request: PageRequest, form: WebhookForm, *, status: int = 200) -> HttpResponse:
    found = WebhookEndpoint.objects.select_related("project").defer("secret", "old_secret").order_by("-created_at")
    context = {"webhooks": list(found[: actions.MOST_ENDPOINTS]), "form": form}
    return render_page(request, "projects/webhooks.html", context, status=status)


@require_http_methods(["GET", "POST"])
@for_admins
def webhook(request: PageRequest, webhook_id: UUID) -> HttpResponse:
    """One webhook with its deliveries; POST changes it."""
    found = _webhook(webhook_id)
    if request.method != "POST":
        return _detail(request, found)
    form = ChangeWebhookForm(request.POST)
    if form.is_valid():
        try:
            actions.change_webhook(found, **form.cleaned_data, by=Actor.person(request.user), now=timezone.now())
        except InvalidWebhook as error:
            form.add_error("url", str(error))
        else:
            messages.success(request, "The webhook is changed.")
            return redirect("webhook", found.pk)
    return _detail(request, found, form=form, status=422)


def _detail(
    request: PageRequest,
    found: WebhookEndpoint,
    *,
    form: ChangeWebhookForm | None = None,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    kept = {"url": found.url, "description": found.description, "events": found.events}
    page = page_of(WebhookDelivery.objects.filter(endpoint=found), request, keys=("id",), size=25)
    context = {
        "webhook": found,
        "form": form or ChangeWebhookForm(initial=kept),
        "page": page,
        "waits": any(one.is_open and not one.attempts for one in page.items),
        "has_old_secret": bool(found.old_secret_until and timezone.now() < found.old_secret_until),
        "refused": "" if found.status == "active" else "It is disabled: enable it first.",
        **more,
    }
    return render_page(request, "projects/webhook.html", context, status=status)


@require_POST
@for_admins
def webhook_enable(request: PageRequest, webhook_id: UUID) -> HttpResponse:
    """Send what happens from now on."""
    actions.enable_webhook(_webhook(webhook_id), by=Actor.person(request.user), now=timezone.now())
    return redirect("webhook", webhook_id)


@require_POST
@for_admins
def webhook_disable(request: PageRequest, webhook_id: UUID) -> HttpResponse:
    """Send nothing any more."""
    actions.disable_webhook(_webhook(webhook_id), by=Actor.person(request.user), now=timezone.now())
    return redirect("webhook", webhook_id)


@require_POST
@for_admins
@sensitive_variables("secret")
def webhook_rotate(request: PageRequest, webhook_id: UUID) -> HttpResponse:
    """Make a new secret, and show it this once."""
    secret = actions.rotate_secret(_webhook(webhook_id), by=Actor.person(request.user), now=timezone.now())
    return _detail(request, _webhook(webhook_id), secret=secret.get_secret_value())


@require_POST
@for_admins
def webhook_test(request: PageRequest, webhook_id: UUID) -> HttpResponse:
    """Send a test event."""
    actions.send_test(_webhook(webhook_id), by=Actor.person(request.user), now=timezone.now())
    return redirect("webhook", webhook_id)


@require_POST
@for_admins
def webhook_remove(request: PageRequest, webhook_id: UUID) -> HttpResponse:
    """Forget a webhook."""
    found = _webhook(webhook_id)
    actions.remove_webhook(found, by=Actor.person(request.user), now=timezone.now())
    messages.success(request, f"The webhook to {found.host} is removed.")
    return redirect("webhooks")


@require_POST
@for_admins
def webhook_redeliver(request: PageRequest, webhook_id: UUID, delivery_id: UUID) -> HttpResponse:
    """Send a delivery again."""
    found = WebhookDelivery.objects.filter(endpoint=webhook_id, pk=delivery_id).first()
    if found is None:
        raise Http404("There is no such delivery.")
    deliveries.redeliver(found, by=Actor.person(request.user), now=timezone.now())
    return redirect("webhook", webhook_id)


def _webhook(webhook_id: UUID) -> WebhookEndpoint:
    found = WebhookEndpoint.objects.select_related("project", "created_by").filter(pk=webhook_id).first()
    if found is None:
        raise Http404("There is no such webhook.")
    return found
