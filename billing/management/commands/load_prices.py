"""Load a table of prices."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing import price_table
from billing.errors import InvalidPrices
from projects.actors import Actor


class Command(BaseCommand):
    help = "Add the prices of a table that the database does not have. Ends with 1 when some differ."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=price_table.SHIPPED, help="TOML; the shipped one")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            loaded = price_table.load(options["file"], by=Actor.system("load_prices"), now=timezone.now())
        except InvalidPrices as error:
            raise CommandError(str(error), returncode=2) from error
        for price in loaded.added:
            self.stdout.write(f"added {price}")
        self.stdout.write(f"{len(loaded.added)} prices added")
        if loaded.differing:
            names = ", ".join(str(price) for price in loaded.differing)
            raise CommandError(f"Other numbers are in the database for: {names}. Give the new ones a later date.")
