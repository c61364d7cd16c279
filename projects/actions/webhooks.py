"""Webhook endpoints: adding, changing, testing, disabling, removing. The record names the host, never the whole URL,
whose path may be a key.

What asks name servers (`targets.find`) is done before the transaction opens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.views.decorators.debug import sensitive_variables
from pydantic import SecretStr

from projects import audit, sealing
from projects.actions.webhook_deliveries import keeps_trying, switch_off
from projects.actors import Actor
from projects.addresses import look_up
from projects.errors import DomainError, InvalidWebhook
from projects.ids import new_id
from projects.jsontext import storable_text
from projects.models import Project, WebhookDelivery, WebhookEndpoint
from projects.states import WEBHOOK_TRANSITIONS, WebhookStatus
from projects.transitions import step
from projects.webhooks import signing, targets
from projects.webhooks.messages import SENT_TYPES, TEST_TYPE
from projects.webhooks.targets import Resolve

MOST_ENDPOINTS = 100
# Any constant that no other advisory lock has.
_ADDING_LOCK = 0x656B_6C79
OLD_SECRET_LIVES = timedelta(hours=24)
MAX_DESCRIPTION = 200


@dataclass(frozen=True)
class NewWebhook:
    """What is asked for. No `events`: all types. No `project`: all of them, and the account."""

    url: str
    description: str = ""
    events: Sequence[str] = ()
    project: Project | None = None


@sensitive_variables()
def add_webhook(
    wanted: NewWebhook, *, by: Actor, now: datetime, resolve: Resolve = look_up
) -> tuple[WebhookEndpoint, SecretStr]:
    """Add an endpoint, which hears of everything from now on. Return it and its secret, which is shown this once.

    Raises InvalidWebhook for an address that nothing may be sent to, an unknown type, or one endpoint too many.
    """
    url = _found(wanted.url, resolve)
    events = _known(wanted.events)
    secret = signing.new_secret()
    with audit.journal(by=by, now=now) as journal:
        _let_nobody_else_count()
        if WebhookEndpoint.objects.count() >= MOST_ENDPOINTS:
            raise InvalidWebhook(f"There are {MOST_ENDPOINTS} webhooks already. Remove one that is not used.")
        endpoint = WebhookEndpoint(
            id=new_id(),
            project=wanted.project,
            url=url,
            description=storable_text(wanted.description, max_chars=MAX_DESCRIPTION),
            events=events,
            active_since=now,
            created_at=now,
            created_by_id=by.user_id,
        )
        endpoint.secret = sealing.seal(secret, whose=endpoint.whose)
        endpoint.save(force_insert=True)
        _record(journal, "webhook.added", endpoint, events=events)
    return endpoint, secret


def _let_nobody_else_count() -> None:
    """Wait for whoever adds an endpoint now, until the end of the transaction: two would each be the last that fits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADDING_LOCK])


def change_webhook(
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    description: str | None = None,
    events: Sequence[str] | None = None,
    by: Actor,
    now: datetime,
    resolve: Resolve = look_up,
) -> WebhookEndpoint:
    """Change what is given. Raises InvalidWebhook as `add_webhook`."""
    if url is not None:
        url = _found(url, resolve)
    asked: dict[str, Any] = {
        "url": url,
        "description": None if description is None else storable_text(description, max_chars=MAX_DESCRIPTION),
        "events": None if events is None else _known(events),
    }
    with audit.journal(by=by, now=now) as journal:
        endpoint = _locked(endpoint)
        before = endpoint.host
        changes: dict[str, Any] = {
            name: value for name, value in asked.items() if value not in (None, getattr(endpoint, name))
        }
        if not changes:
            return endpoint
        for name, value in changes.items():
            setattr(endpoint, name, value)
        endpoint.save(update_fields=list(changes))
        details: dict[str, Any] = {name: changes[name] for name in ("description", "events") if name in changes}
        if "url" in changes:
            details["url"] = {"from": before, "to": endpoint.host}
        _record(journal, "webhook.changed", endpoint, **details)
    return endpoint


@sensitive_variables()
def rotate_secret(endpoint: WebhookEndpoint, *, by: Actor, now: datetime) -> SecretStr:
    """Sign with a new secret, which is returned this once, and for OLD_SECRET_LIVES with the present one as well."""
    secret = signing.new_secret()
    with audit.journal(by=by, now=now) as journal:
        endpoint = _locked(endpoint)
        endpoint.old_secret, endpoint.old_secret_until = endpoint.secret, now + OLD_SECRET_LIVES
        endpoint.secret = sealing.seal(secret, whose=endpoint.whose)
        endpoint.save(update_fields=["secret", "old_secret", "old_secret_until"])
        _record(journal, "webhook.secret_rotated", endpoint)
    return secret


def disable_webhook(endpoint: WebhookEndpoint, *, by: Actor, now: datetime) -> WebhookEndpoint:
    """Send nothing any more, also not what is on its way. Raises IllegalTransition when it is disabled."""
    with audit.journal(by=by, now=now):
        endpoint = _locked(endpoint)
        switch_off(endpoint, f"Disabled by {by.name}.", by=by, now=now)
    return endpoint


def enable_webhook(
    endpoint: WebhookEndpoint, *, by: Actor, now: datetime, resolve: Resolve = look_up
) -> WebhookEndpoint:
    """Send what happens from now on. Raises InvalidWebhook for an address that nothing may be sent to any more."""
    targets.find(endpoint.url, resolve=resolve)
    with audit.journal(by=by, now=now) as journal:
        endpoint = _locked(endpoint)
        fields = {"reason": "", "active_since": now, "failing_since": None, "problem": ""}
        step(endpoint, WebhookStatus.ACTIVE, table=WEBHOOK_TRANSITIONS, **fields)
        _record(journal, "webhook.enabled", endpoint)
    return endpoint


def send_test(endpoint: WebhookEndpoint, *, by: Actor, now: datetime) -> WebhookDelivery:
    """Send an event of type webhook:test, whatever the endpoint listens to. Raises DomainError when it is disabled."""
    with audit.journal(by=by, now=now) as journal:
        endpoint = _locked(endpoint)
        if endpoint.status != WebhookStatus.ACTIVE:
            raise DomainError("The webhook is disabled: enable it first.")
        delivery = WebhookDelivery.objects.create(
            id=new_id(),
            endpoint=endpoint,
            event_id=new_id(),
            event_seq=0,
            event_type=TEST_TYPE,
            next_attempt_at=now,
            give_up_at=now + keeps_trying(),
            created_at=now,
        )
        _record(journal, "webhook.tested", endpoint, delivery=str(delivery.pk))
    return delivery


def remove_webhook(endpoint: WebhookEndpoint, *, by: Actor, now: datetime) -> None:
    """Forget an endpoint and all that was sent to it."""
    with audit.journal(by=by, now=now) as journal:
        endpoint = _locked(endpoint)
        _record(journal, "webhook.removed", endpoint)
        endpoint.delete()


def _found(url: str, resolve: Resolve) -> str:
    """Return an address, to which something may be sent, as it is kept. Raises InvalidWebhook."""
    scheme = targets.find(url, resolve=resolve).scheme
    return scheme + url[len(scheme) :]  # in lower case, as the row's constraint has it


def _known(events: Sequence[str]) -> list[str]:
    """Return the types, sorted and each once. Raises InvalidWebhook."""
    if unknown := sorted(set(events) - set(SENT_TYPES)):
        raise InvalidWebhook(f"There is no event {unknown[0]}. Choose from: {', '.join(SENT_TYPES)}.")
    return sorted(set(events))


def _locked(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    found = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
    if found is None:
        raise DomainError("This webhook was removed a moment ago.")
    return found


def _record(journal: audit.Journal, action: str, endpoint: WebhookEndpoint, **details: Any) -> None:
    journal.add(action, project_id=endpoint.project_id, obj=endpoint, details={"host": endpoint.host, **details})
