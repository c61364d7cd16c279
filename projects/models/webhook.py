"""Receivers of events outside, and what was sent to them."""

import pgtrigger
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from projects.ids import new_id
from projects.models.project import Project
from projects.sealing import SealedField
from projects.states import (
    DELIVERY_TRANSITIONS,
    OPEN_DELIVERY,
    WEBHOOK_TRANSITIONS,
    DeliveryStatus,
    WebhookStatus,
    pairs,
    values,
)


class WebhookEndpoint(models.Model):
    """An address that events are sent to: all of them or some types, of all projects or of one.

    Deliveries are signed with `secret`, and until `old_secret_until` with the one before it as well. What happened
    before `active_since` is not sent.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=2_000)
    description = models.CharField(max_length=200, blank=True)
    events = ArrayField(models.CharField(max_length=32), default=list, blank=True, help_text="None: all types.")
    status = models.CharField(max_length=16, choices=WebhookStatus, default=WebhookStatus.ACTIVE)
    reason = models.CharField(max_length=255, blank=True, help_text="Why it is disabled.")
    active_since = models.DateTimeField(null=True, blank=True)
    secret = SealedField(editable=False)
    old_secret = SealedField(null=True, editable=False)  # type: ignore[misc]  # its type says nothing of null
    old_secret_until = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(
        null=True, blank=True, help_text="When the first of the failures in a row was; empty after a success."
    )
    problem = models.CharField(max_length=16, blank=True, help_text="The kind of the last failure.")
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        indexes = [models.Index(fields=["-created_at", "-id"], name="webhook_newest")]
        constraints = [
            models.CheckConstraint(condition=Q(url__regex=r"^https?://[^/?#@]+([/?]|$)"), name="webhook_url_is_http"),
            models.CheckConstraint(
                condition=Q(status=WebhookStatus.ACTIVE, active_since__isnull=False, reason="")
                | (Q(status=WebhookStatus.DISABLED, active_since__isnull=True) & ~Q(reason="")),
                name="webhook_disabled_says_why",
            ),
            models.CheckConstraint(
                condition=Q(old_secret__isnull=True, old_secret_until__isnull=True)
                | Q(old_secret__isnull=False, old_secret_until__isnull=False),
                name="webhook_old_secret_has_an_end",
            ),
        ]
        triggers = [pgtrigger.FSM(name="webhook_fsm", field="status", transitions=pairs(WEBHOOK_TRANSITIONS))]

    def __str__(self) -> str:
        # Not the whole URL: its path may be a key, as with Slack.
        return f"webhook to {self.host}"

    @property
    def host(self) -> str:
        """The host and port of its address."""
        return self.url.partition("://")[2].partition("/")[0].partition("?")[0]

    @property
    def whose(self) -> str:
        """What its secrets are sealed for."""
        return f"webhook:{self.pk}"


class WebhookDelivery(models.Model):
    """One event for one endpoint, and what the receiver said last.

    `event_id` is the audit row's, `event_seq` its number in its chain; a test event has none in the log and number 0.
    While it is open, `next_attempt_at` is when it is due; whoever sends it moves that behind the end of the attempt.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event_id = models.UUIDField()
    event_seq = models.BigIntegerField()
    event_type = models.CharField(max_length=32)
    status = models.CharField(max_length=16, choices=DeliveryStatus, default=DeliveryStatus.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    give_up_at = models.DateTimeField()
    last_attempt_at = models.DateTimeField(null=True, blank=True)
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    response_excerpt = models.CharField(max_length=1_000, blank=True)
    problem = models.CharField(max_length=255, blank=True, help_text="Why the last attempt failed, in a sentence.")
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(
                fields=["endpoint", "next_attempt_at"],
                condition=Q(status__in=values(OPEN_DELIVERY)),
                name="webhook_delivery_due",
            ),
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_newest"),
            models.Index(fields=["created_at"], name="webhook_delivery_age"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "event_id"], name="webhook_delivery_once"),
            models.CheckConstraint(
                condition=Q(status__in=values(OPEN_DELIVERY), next_attempt_at__isnull=False)
                | (~Q(status__in=values(OPEN_DELIVERY)) & Q(next_attempt_at__isnull=True)),
                name="webhook_delivery_open_is_due",
            ),
            models.CheckConstraint(
                condition=Q(status=DeliveryStatus.DELIVERED, delivered_at__isnull=False)
                | (~Q(status=DeliveryStatus.DELIVERED) & Q(delivered_at__isnull=True)),
                name="webhook_delivery_has_time",
            ),
            models.CheckConstraint(
                condition=Q(response_status__isnull=True) | Q(response_status__range=(100, 599)),
                name="webhook_delivery_status_is_http",
            ),
        ]
        triggers = [pgtrigger.FSM(name="delivery_fsm", field="status", transitions=pairs(DELIVERY_TRANSITIONS))]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id}"

    @property
    def is_open(self) -> bool:
        """Whether it is still to be sent."""
        return self.status in OPEN_DELIVERY


class WebhookCursor(models.Model):
    """How far into an audit chain deliveries were made of its events. Locked by whoever makes them.

    A chain's numbers have no gaps and become visible in their order, so nothing below `seq` is ever missed.
    """

    chain = models.CharField(primary_key=True, max_length=36)
    seq = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.chain} #{self.seq}"
