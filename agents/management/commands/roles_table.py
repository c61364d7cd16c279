"""Write docs/roles.md from the role table."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from agents.roles.shown import markdown


class Command(BaseCommand):
    help = "Write docs/roles.md from the role table. With --check, only say whether it is up to date."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; end with code 1 when it is stale")

    def handle(self, *args: Any, **options: Any) -> None:
        path = settings.BASE_DIR / "docs" / "roles.md"
        is_current = path.is_file() and path.read_text(encoding="utf-8") == markdown()
        if options["check"] and not is_current:
            raise CommandError("docs/roles.md is stale: run manage.py roles_table.")
        if not options["check"] and not is_current:
            path.write_text(markdown(), encoding="utf-8")
        self.stdout.write(f"{path.name} is up to date.")
