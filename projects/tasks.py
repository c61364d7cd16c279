"""Celery tasks of projects: one call each, nothing decided here. Messages are hints; periodic ones find the lost."""

from celery import shared_task
from django.utils import timezone

from projects.actions import webhook_deliveries
from projects.webhooks.pump import pump
from projects.webhooks.sending import sender


# No time limit: the pump ends by itself, and each attempt has its own.
@shared_task(ignore_result=True)
def send_webhooks() -> None:
    """Make deliveries of new events and send what is due. Safe to run twice at once, and at any time."""
    pump(sender(), timezone.now)


@shared_task(ignore_result=True)
def forget_deliveries() -> None:
    """Delete the deliveries that nobody looks at any more."""
    webhook_deliveries.forget_old(now=timezone.now())
