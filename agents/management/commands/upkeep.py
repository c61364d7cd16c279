"""Look after dead rows and statistics of the tables that are overdue."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents import upkeep


class Command(BaseCommand):
    help = (
        "Vacuum and analyse the tables that are overdue, and say what was done. Beat does it by itself where the "
        "application owns its tables; elsewhere run it once a day as their owner."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit with 1 when a table could not be looked after."""
        done = upkeep.look_after()
        for one in done:
            self.stdout.write(f"{one.verb} {one.table}{f': {one.problem}' if one.problem else ''}")
        if not done:
            self.stdout.write("nothing is overdue, or another process is at it")
        if any(one.problem for one in done):
            raise CommandError("Some tables were not looked after.")
