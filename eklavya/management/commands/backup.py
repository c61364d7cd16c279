"""`manage.py backup DIR`: everything that cannot be made again, as it is at one moment."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from eklavya.backups import keys, making
from eklavya.backups.manifest import BackupProblem
from eklavya.env import Env
from eklavya.management.commands._backups import database_url, passphrase, servers
from eklavya.services.errors import ServiceError


class Command(BaseCommand):
    help = (
        "Write the database and every repository, as they are at one moment, to a directory that is not there yet. "
        "Eklavya may go on working. With two database users run it as the owner of the tables."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("directory", type=Path)
        parser.add_argument(
            "--keys",
            action="store_true",
            help="add the keys of stored secrets and sessions, encrypted by a passphrase (EKLAVYA_BACKUP_PASSPHRASE, "
            "or asked for). Without them a restored installation needs the keys from elsewhere",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        env, directory = Env(), options["directory"].absolute()
        try:
            sealed = keys.seal(env, passphrase(again=True)) if options["keys"] else None
            with servers(env, self.stdout.write, alone=False):
                made = making.make(
                    directory, url=database_url(), now=timezone.now(), keys=sealed, report=self.stdout.write
                )
        except (BackupProblem, ServiceError) as problem:
            raise CommandError(str(problem)) from problem
        with_keys = "with its keys, encrypted" if made.has_keys else "without keys: keep those of var/ apart"
        self.stdout.write(f"whole: {directory}, {with_keys}")
