"""`manage.py restore DIR`: an installation as it was when the backup was made."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from eklavya.backups import checking, keys, manifest, restoring
from eklavya.backups.manifest import BackupProblem
from eklavya.env import Env
from eklavya.management.commands._backups import database_url, passphrase, servers
from eklavya.services.errors import ServiceError


class Command(BaseCommand):
    help = (
        "Read a backup into this installation, which must not be working, and check what came out: every audit chain, "
        "the ledger and every merged commit. Refuses one that holds something, unless --replace is said."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("directory", type=Path)
        parser.add_argument("--replace", action="store_true", help="lose what this installation holds")
        parser.add_argument("--keys", action="store_true", help="restore the keys too; asks for their passphrase")

    def handle(self, *args: Any, **options: Any) -> None:
        env, directory, replace = Env(), options["directory"].absolute(), options["replace"]
        try:
            found = self._keys(env, directory) if options["keys"] else None
            with servers(env, self.stdout.write, alone=True):
                backup = restoring.restore(
                    directory, url=database_url(), replace=replace, now=timezone.now(), report=self.stdout.write
                )
                problems = list(checking.problems())
            if found:
                keys.write(Path(settings.EKLAVYA_VAR), found)
        except (BackupProblem, ServiceError) as problem:
            raise CommandError(str(problem)) from problem
        for sentence in problems:
            self.stderr.write(sentence)
        if problems:
            raise CommandError(f"Restored, and {len(problems)} things do not fit: see above.", returncode=2)
        self.stdout.write(f"whole: as it was at {backup.made_at}. Start it with `make run`, which migrates it.")

    def _keys(self, env: Env, directory: Path) -> dict[str, str]:
        if not manifest.read(directory).has_keys:
            raise BackupProblem(f"{directory} has no keys.")
        if named := keys.overruled(env):
            raise BackupProblem(f"{' and '.join(named)} would be taken instead of the restored keys: unset it.")
        return keys.unseal((directory / manifest.KEYS).read_bytes(), passphrase(again=False))
