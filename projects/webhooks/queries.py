"""What others ask of webhooks."""

from projects.models import WebhookEndpoint
from projects.states import WebhookStatus


def listens() -> bool:
    """Whether any endpoint is told of events."""
    return WebhookEndpoint.objects.filter(status=WebhookStatus.ACTIVE).exists()
