"""Have the newest key encrypt all secrets."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count
from django.utils import timezone

from projects.actions.secrets import rotate_secrets
from projects.actors import Actor
from projects.errors import SecretUnreadable
from projects.models import Secret, WebhookEndpoint


class Command(BaseCommand):
    help = "Encrypt every secret with the first of EKLAVYA_SECRET_KEYS. After it the other keys can be dropped."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rotated = rotate_secrets(by=Actor.system("rotate_secrets"), now=timezone.now())
        except SecretUnreadable as error:
            raise CommandError(f"Nothing was changed. {error}") from None
        webhooks = WebhookEndpoint.objects.aggregate(new=Count("secret"), old=Count("old_secret"))
        total = Secret.objects.count() + webhooks["new"] + webhooks["old"]
        self.stdout.write(f"{rotated} of {total} secrets encrypted anew")
