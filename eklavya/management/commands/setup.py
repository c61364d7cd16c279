"""Bring a migrated database to where the system can work. Idempotent: every start runs it."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from billing import price_table
from learning.actions import load_prompts
from projects.actions.workflows import load_shipped
from projects.actors import Actor

ADMIN = "admin"
# Task -> seconds between two of them. They look after what lost messages and dead processes left behind.
PERIODIC = {
    "agents.tasks.sweep": 5,
    "projects.tasks.send_webhooks": 10,
    "projects.tasks.keep_workflows": 10,
    "demos.tasks.keep_demos": 15,
    "eklavya.tasks.expire": 60,
    "agents.tasks.maintain": 3600,
    "agents.tasks.keep_transcripts": 3600,
    "agents.tasks.keep_statistics": 3600,
    "agents.tasks.forget_messages": 3600,
    "projects.tasks.forget_deliveries": 3600,
    "projects.tasks.forget_executions": 3600,
    "eklavya.tasks.forget_visitors": 3600,
    "projects.tasks.verify_audit": 86_400,
}


class Command(BaseCommand):
    help = "Make the admin, load the shipped prompts, prices and workflows and schedule the periodic work."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do all steps; what is there already stays as it is."""
        with transaction.atomic():
            self._make_admin()
            self._schedule()
        by, now = Actor.system("setup"), timezone.now()
        loaded = load_prompts(by=by, now=now)
        price_table.load(by=by, now=now)
        workflows = load_shipped(by=by, now=now)
        counts = f"{len(loaded)} prompts, {len(workflows)} workflows, {len(PERIODIC)} periodic tasks"
        self.stdout.write(f"{counts}, admin “{ADMIN}”")

    def _make_admin(self) -> None:
        """The first admin has no password: the one-time link that `run` prints signs in, and there one can be set."""
        if not User.objects.filter(is_superuser=True).exists():
            User.objects.create_superuser(ADMIN, password=None)

    def _schedule(self) -> None:
        for task, seconds in PERIODIC.items():
            every, _ = IntervalSchedule.objects.get_or_create(every=seconds, period=IntervalSchedule.SECONDS)
            PeriodicTask.objects.get_or_create(
                name=task,
                # A beat that was away must not let a heap of equal messages pile up.
                defaults={"task": task, "interval": every, "expire_seconds": 3 * seconds},
            )
