"""Print what proves later that the audit log's tail was not cut or rewritten."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from projects import anchors


class Command(BaseCommand):
    help = (
        "Print the number and hash of every chain's last row. Keep it where nobody who can write to the database can, "
        "on paper or on another machine, and compare with `manage.py verify_audit --anchor FILE`."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        for line in anchors.take(timezone.now()):
            self.stdout.write(line)
