"""The way of a delivery: made from an event, claimed for an attempt, recorded, sent again, forgotten.

Locks are taken in one order: the endpoint before its deliveries.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from projects import audit
from projects.actions.chat import notify
from projects.actors import Actor
from projects.audit import Journal
from projects.errors import DomainError
from projects.ids import new_id
from projects.models import AuditChain, AuditLog, Notification, WebhookCursor, WebhookDelivery, WebhookEndpoint
from projects.states import (
    DELIVERY_TRANSITIONS,
    OPEN_DELIVERY,
    WEBHOOK_TRANSITIONS,
    DeliveryStatus,
    WebhookStatus,
)
from projects.transitions import step
from projects.webhooks.answers import Answer
from projects.webhooks.schedule import next_attempt

POSTMAN = Actor.system("webhooks")
SEVERAL = 5
"""Failed attempts, and no success, before an endpoint is disabled: not for a bad moment of one that is rarely used."""
AT_ONCE = 4
"""Attempts of a process at one endpoint at a time; a failing one is tried one by one."""
# Longer than any attempt takes: then its process is dead, and the delivery is due again.
LEASE = timedelta(seconds=90)
KEPT = timedelta(days=30)
_CHAINS_AT_ONCE = 100
_EVENTS_AT_ONCE = 500
_FORGOTTEN_AT_ONCE = 5_000


def keeps_trying() -> timedelta:
    """Return how long a delivery is tried, and how long an endpoint may fail at least, without a success."""
    return timedelta(hours=settings.EKLAVYA_WEBHOOK_HOURS)


def queue_events(*, now: datetime) -> int:
    """Make deliveries of all events that have none, for the endpoints that listen, and return how many.

    Exact however often and late it is called: each chain is read from where it was left (`WebhookCursor`).
    """
    endpoints = list(WebhookEndpoint.objects.filter(status=WebhookStatus.ACTIVE).only("pk", *_LISTENS))
    if not endpoints:
        return 0
    return sum(_queue_chain(key, last, endpoints, now=now) for key, last in _behind(endpoints))


_LISTENS = ("project_id", "events", "active_since")


def _behind(endpoints: Sequence[WebhookEndpoint]) -> list[tuple[str, int]]:
    """Return chains with rows that were not looked at, and the number of each one's last row."""
    seen = WebhookCursor.objects.filter(chain=OuterRef("key")).values("seq")
    chains = AuditChain.objects.annotate(seen=Coalesce(Subquery(seen), 0)).filter(last_seq__gt=F("seen"))
    projects = {endpoint.project_id for endpoint in endpoints}
    if None not in projects:
        chains = chains.filter(key__in=[str(one) for one in projects])
    return list(chains.order_by("key").values_list("key", "last_seq")[:_CHAINS_AT_ONCE])


@transaction.atomic
def _queue_chain(key: str, last: int, endpoints: Sequence[WebhookEndpoint], *, now: datetime) -> int:
    WebhookCursor.objects.bulk_create([WebhookCursor(chain=key)], ignore_conflicts=True)
    cursor = WebhookCursor.objects.select_for_update(skip_locked=True).filter(chain=key).first()
    if cursor is None or cursor.seq >= last:
        return 0  # another process was at it
    events = AuditLog.objects.filter(chain=key, seq__gt=cursor.seq, seq__lte=last).exclude(event_type="")
    # What happened before anybody listened may be years: it is passed over at once, not batch by batch.
    events = events.filter(timestamp__gte=min(_beginning(endpoint) for endpoint in endpoints))
    rows = list(events.only("id", "seq", "event_type", "timestamp", "project_id").order_by("seq")[:_EVENTS_AT_ONCE])
    made = [
        WebhookDelivery(
            id=new_id(),
            endpoint_id=endpoint.pk,
            event_id=row.pk,
            event_seq=row.seq,
            event_type=row.event_type,
            next_attempt_at=now,
            give_up_at=now + keeps_trying(),
            created_at=now,
        )
        for row in rows
        for endpoint in endpoints
        if _hears(endpoint, row)
    ]
    # An endpoint that is removed at this moment takes its rows along.
    there = set(_locked({one.endpoint_id for one in made})) if made else set()
    WebhookDelivery.objects.bulk_create([one for one in made if one.endpoint_id in there], ignore_conflicts=True)
    cursor.seq = rows[-1].seq if len(rows) == _EVENTS_AT_ONCE else last
    cursor.save(update_fields=["seq"])
    return len(made)


def _hears(endpoint: WebhookEndpoint, row: AuditLog) -> bool:
    return (
        endpoint.project_id in {None, row.project_id}
        and (not endpoint.events or row.event_type in endpoint.events)
        and row.timestamp >= _beginning(endpoint)
    )


def _beginning(endpoint: WebhookEndpoint) -> datetime:
    assert endpoint.active_since, "only active ones are asked"
    return endpoint.active_since


def _locked(ids: set[UUID]) -> dict[UUID, WebhookEndpoint]:
    """Lock the endpoints, as far as they are there, in the order of their ids."""
    rows = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
    return {endpoint.pk: endpoint for endpoint in rows}


def claim_due(*, room: int, busy: Mapping[UUID, int], now: datetime) -> list[WebhookDelivery]:
    """Take at most `room` deliveries that are due, few of each endpoint, and count their attempts.

    `busy` says how many of an endpoint this process has on their way. Nobody else takes them until LEASE is over.
    """
    due = WebhookDelivery.objects.filter(status__in=OPEN_DELIVERY, next_attempt_at__lte=now)
    waiting = WebhookEndpoint.objects.filter(Exists(due.filter(endpoint=OuterRef("pk"))), status=WebhookStatus.ACTIVE)
    claimed: list[WebhookDelivery] = []
    # In another order each time: else a few slow ones with much to send would take all the room, for as long.
    for endpoint in waiting.order_by("?"):
        at_once = 1 if endpoint.failing_since else AT_ONCE
        most = min(room - len(claimed), at_once - busy.get(endpoint.pk, 0))
        if most > 0:
            claimed += _claim(endpoint, due.filter(endpoint=endpoint), most, now=now)
    return claimed


@transaction.atomic
def _claim(
    endpoint: WebhookEndpoint, due: QuerySet[WebhookDelivery], most: int, *, now: datetime
) -> list[WebhookDelivery]:
    found = list(due.select_for_update(skip_locked=True).order_by("next_attempt_at", "id")[:most])
    for delivery in found:
        delivery.attempts += 1
        delivery.next_attempt_at = now + LEASE
        delivery.last_attempt_at = now
        delivery.endpoint = endpoint
    WebhookDelivery.objects.bulk_update(found, ["attempts", "next_attempt_at", "last_attempt_at"])
    return found


def record(results: Sequence[tuple[WebhookDelivery, Answer]], *, now: datetime) -> None:
    """Write down what came of attempts. What was changed since its claim (sent again, given up) is left alone."""
    with audit.journal(by=POSTMAN, now=now) as journal:
        endpoints = _locked({delivery.endpoint_id for delivery, _ in results})
        for claimed, answer in results:
            delivery = WebhookDelivery.objects.select_for_update().filter(pk=claimed.pk, **_claim_of(claimed)).first()
            if delivery is not None:
                delivery.endpoint = endpoints[delivery.endpoint_id]
                _record(delivery, answer, journal, now=now)


def _claim_of(delivery: WebhookDelivery) -> dict[str, Any]:
    return {"attempts": delivery.attempts, "next_attempt_at": delivery.next_attempt_at, "status": delivery.status}


def _record(delivery: WebhookDelivery, answer: Answer, journal: Journal, *, now: datetime) -> None:
    said = {
        "response_status": answer.status,
        "response_excerpt": answer.excerpt[:1_000],
        "problem": answer.problem[:255],
        "duration_ms": answer.duration_ms,
    }
    endpoint = delivery.endpoint
    if not answer.kind:
        step(
            delivery,
            DeliveryStatus.DELIVERED,
            table=DELIVERY_TRANSITIONS,
            next_attempt_at=None,
            delivered_at=now,
            **said,
        )
        _note(endpoint, failing_since=None, problem="")
        return
    if answer.kind == "refused" and endpoint.problem != "refused":
        details = {"host": endpoint.host, "why": answer.problem}
        journal.add("webhook.refused", project_id=endpoint.project_id, obj=endpoint, details=details)
    _note(endpoint, failing_since=endpoint.failing_since or now, problem=answer.kind[:16])
    again = next_attempt(delivery.attempts, retry_after_s=answer.retry_after_s, now=now)
    is_given_up = again > delivery.give_up_at or answer.is_gone
    if is_given_up:
        _give_up(delivery, said, journal)
    elif delivery.status == DeliveryStatus.FAILED:
        WebhookDelivery.objects.filter(pk=delivery.pk).update(next_attempt_at=again, **said)
    else:
        step(delivery, DeliveryStatus.FAILED, table=DELIVERY_TRANSITIONS, next_attempt_at=again, **said)
    if endpoint.status == WebhookStatus.ACTIVE and answer.is_gone:
        switch_off(endpoint, "The receiver answered 410: it wants no more.", by=POSTMAN, now=now)
    elif endpoint.status == WebhookStatus.ACTIVE and is_given_up and _is_dead(endpoint, now=now):
        assert endpoint.failing_since
        switch_off(endpoint, _since(endpoint.failing_since), by=POSTMAN, now=now)


def _is_dead(endpoint: WebhookEndpoint, *, now: datetime) -> bool:
    """Whether nothing got through for long, and several attempts say so. Asked when a delivery was given up.

    Not at any failure: the first one in days says little, and its delivery has a time of its own to get through.
    """
    since = endpoint.failing_since
    if since is None or since > now - keeps_trying():
        return False
    failed = WebhookDelivery.objects.filter(endpoint=endpoint, last_attempt_at__gte=since)
    return (failed.aggregate(attempts=Sum("attempts"))["attempts"] or 0) >= SEVERAL


def _since(moment: datetime) -> str:
    return f"Nothing got through since {moment:%Y-%m-%d %H:%M} UTC."


def _note(endpoint: WebhookEndpoint, **fields: Any) -> None:
    """Set what changed of an endpoint's health: mostly nothing."""
    if any(getattr(endpoint, name) != value for name, value in fields.items()):
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**fields)
        for name, value in fields.items():
            setattr(endpoint, name, value)


def _give_up(delivery: WebhookDelivery, said: dict[str, Any], journal: Journal) -> None:
    step(delivery, DeliveryStatus.DEAD, table=DELIVERY_TRANSITIONS, next_attempt_at=None, **said)
    details = {
        "host": delivery.endpoint.host,
        "event": str(delivery.event_id),
        "type": delivery.event_type,
        "attempts": delivery.attempts,
        "why": delivery.problem,
    }
    journal.add("webhook.dead", project_id=delivery.endpoint.project_id, obj=delivery, details=details)


def switch_off(endpoint: WebhookEndpoint, why: str, *, by: Actor, now: datetime) -> None:
    """Disable a locked endpoint and give up what is on its way; people are told when the platform did it."""
    with audit.journal(by=by, now=now) as journal:
        fields = {"reason": why, "active_since": None, "failing_since": None}
        step(endpoint, WebhookStatus.DISABLED, table=WEBHOOK_TRANSITIONS, **fields)
        # One statement for what may be thousands; each is open, and so may die.
        given_up = WebhookDelivery.objects.filter(endpoint=endpoint, status__in=OPEN_DELIVERY).update(
            status=DeliveryStatus.DEAD, next_attempt_at=None, problem="The webhook was disabled."
        )
        details = {"host": endpoint.host, "why": why, "given_up": given_up}
        journal.add("webhook.disabled", project_id=endpoint.project_id, obj=endpoint, details=details)
        if by == POSTMAN:
            notify(
                endpoint.project,
                level=Notification.Level.ERROR,
                title=f"The webhook to {endpoint.host} is disabled",
                message=f"{why} Mend the receiver, then enable the webhook; {given_up} deliveries were given up.",
                links=[{"label": "Open the webhook", "url": f"/settings/webhooks/{endpoint.pk}/"}],
                by=by,
                now=now,
            )


def redeliver(delivery: WebhookDelivery, *, by: Actor, now: datetime) -> WebhookDelivery:
    """Have an event sent again at once, as one that was not tried yet. Raises DomainError where nobody listens."""
    with audit.journal(by=by, now=now) as journal:
        endpoint = _locked({delivery.endpoint_id}).get(delivery.endpoint_id)
        if endpoint is None or endpoint.status != WebhookStatus.ACTIVE:
            raise DomainError("The webhook is disabled: enable it first.")
        delivery = WebhookDelivery.objects.select_for_update().get(pk=delivery.pk)
        fresh = {"attempts": 0, "next_attempt_at": now, "give_up_at": now + keeps_trying(), "delivered_at": None}
        if delivery.status == DeliveryStatus.PENDING:
            raise DomainError("It is about to be sent.")
        step(delivery, DeliveryStatus.PENDING, table=DELIVERY_TRANSITIONS, **fresh)
        delivery.endpoint = endpoint
        details = {"host": endpoint.host, "event": str(delivery.event_id), "type": delivery.event_type}
        journal.add("webhook.redelivered", project_id=endpoint.project_id, obj=delivery, details=details)
    return delivery


def forget_old(*, now: datetime) -> int:
    """Delete deliveries that are over and were made KEPT ago; return how many. The events stay in the audit log."""
    old = WebhookDelivery.objects.filter(created_at__lt=now - KEPT).exclude(status__in=OPEN_DELIVERY)
    ids = list(old.order_by("created_at").values_list("pk", flat=True)[:_FORGOTTEN_AT_ONCE])
    return WebhookDelivery.objects.filter(pk__in=ids).exclude(status__in=OPEN_DELIVERY).delete()[0]
