"""Have the newest key encrypt all secrets."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from projects.actions.secrets import rotate_secrets
from projects.actors import Actor
from projects.errors import SecretUnreadable
from projects.models import Secret


class Command(BaseCommand):
    help = "Encrypt every secret with the first of EKLAVYA_SECRET_KEYS. After it the other keys can be dropped."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rotated = rotate_secrets(by=Actor.system("rotate_secrets"), now=timezone.now())
        except SecretUnreadable as error:
            raise CommandError(f"Nothing was changed. {error}") from None
        self.stdout.write(f"{rotated} of {Secret.objects.count()} secrets encrypted anew")
