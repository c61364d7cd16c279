"""Webhooks and what was sent to them."""

from datetime import timedelta

import factory
from factory.django import DjangoModelFactory
from pydantic import SecretStr

from projects import sealing
from projects.ids import new_id
from projects.models import (
    WebhookCursor,
    WebhookDelivery,
    WebhookEndpoint,
)
from projects.states import (
    OPEN_DELIVERY,
    DeliveryStatus,
    WebhookStatus,
)
from tests.factories.common import NOW, WEBHOOK_SECRET


class WebhookEndpointFactory(DjangoModelFactory[WebhookEndpoint]):
    """An endpoint for all events, signing with WEBHOOK_SECRET."""

    class Meta:
        model = WebhookEndpoint

    id = factory.LazyFunction(new_id)
    url = factory.Sequence("https://hooks{}.example.org/eklavya".format)
    status = WebhookStatus.ACTIVE
    reason = factory.LazyAttribute(lambda o: "" if o.status == WebhookStatus.ACTIVE else "Disabled by asha.")
    active_since = factory.LazyAttribute(lambda o: NOW if o.status == WebhookStatus.ACTIVE else None)
    secret = factory.LazyAttribute(lambda o: sealing.seal(SecretStr(WEBHOOK_SECRET), whose=f"webhook:{o.id}"))
    created_at = NOW


class WebhookDeliveryFactory(DjangoModelFactory[WebhookDelivery]):
    """A test event that waits to be sent."""

    class Meta:
        model = WebhookDelivery

    endpoint = factory.SubFactory(WebhookEndpointFactory)
    event_id = factory.LazyFunction(new_id)
    event_seq = 0
    event_type = "webhook:test"
    status = DeliveryStatus.PENDING
    next_attempt_at = factory.LazyAttribute(lambda o: NOW if o.status in OPEN_DELIVERY else None)
    give_up_at = NOW + timedelta(hours=24)
    created_at = NOW
    delivered_at = factory.LazyAttribute(lambda o: NOW if o.status == DeliveryStatus.DELIVERED else None)


class WebhookCursorFactory(DjangoModelFactory[WebhookCursor]):
    class Meta:
        model = WebhookCursor

    chain = factory.LazyFunction(lambda: str(new_id()))
    seq = 3
