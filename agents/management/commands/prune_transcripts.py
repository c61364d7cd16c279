"""Drop the transcripts that are past their time."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from agents import partitions
from agents.actions.retention import prune_transcripts


class Command(BaseCommand):
    help = (
        "Drop the weeks of transcripts that are past EKLAVYA_TRANSCRIPT_DAYS. Beat does it by itself where the "
        "application owns its tables; elsewhere run it once a week as their owner."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not partitions.may_drop():
            raise CommandError("Only the owner of the tables may: set DATABASE_URL to the one who runs the migrations.")
        dropped = prune_transcripts(now=timezone.now())
        self.stdout.write(f"dropped: {', '.join(dropped)}" if dropped else "nothing is past its time")
