"""Bring the shipped prompts into the database."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from learning.actions import load_prompts
from projects.actors import Actor

_RESULTS = {
    "created": "new, active",
    "unchanged": "unchanged",
    "kept": "differs from the file; a person's choice is kept",
}


class Command(BaseCommand):
    help = "Load each role's shipped prompt as a new active version where it changed. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        for loaded in load_prompts(by=Actor.system("load_prompts"), now=timezone.now()):
            self.stdout.write(f"{loaded.role.value:<13} v{loaded.version:<4} {_RESULTS[loaded.result]}")
