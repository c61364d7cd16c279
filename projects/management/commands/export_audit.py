"""Write the audit log to a file that can be checked elsewhere."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from projects import audit_exports


class Command(BaseCommand):
    help = "Write the audit log as JSON lines, to be checked anywhere by `manage.py verify_audit --file FILE`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="must not be there yet")
        parser.add_argument("--project", type=UUID, metavar="ID", help="write this project's chain alone")

    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"]
        part = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            if file.exists():
                raise FileExistsError(0, "it is there already, give another name")
            written = _write(part, options["project"])
            part.rename(file)
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.", returncode=2) from error
        finally:
            part.unlink(missing_ok=True)
        self.stdout.write(f"{written:,} lines in {file}")


def _write(part: Path, project_id: UUID | None) -> int:
    """Write the export, for its owner's eyes alone, and return the number of lines."""
    written = 0
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="") as out:
        for line in audit_exports.lines(project_id, timezone.now()):
            out.write(line)
            written += 1
        out.flush()
        os.fsync(out.fileno())
    return written
