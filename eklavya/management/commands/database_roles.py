"""`manage.py database_roles`: rights of the application's own database user, for production."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from eklavya import database_roles
from eklavya.database_roles import RoleProblem


class Command(BaseCommand):
    help = (
        "Print, or with --apply carry out, the statements that let a database role run the application and not change "
        "what only grows (audit log, ledger, transcripts). Run it as the owner of the tables, after each migrate."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("role", help="the role in the application's DATABASE_URL; it must be there")
        parser.add_argument("--apply", action="store_true", help="carry them out instead of printing them")

    def handle(self, *args: Any, **options: Any) -> None:
        role: str = options["role"]
        if not options["apply"]:
            self.stdout.write(database_roles.script(role))
            return
        try:
            database_roles.apply(role)
        except RoleProblem as problem:
            raise CommandError(str(problem)) from problem
        except DatabaseError as error:
            raise CommandError(f"The database refuses that: {str(error).splitlines()[0]}.") from error
        self.stdout.write(f"{role} may only insert into: {', '.join(database_roles.append_only_tables())}")
