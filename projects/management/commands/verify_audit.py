"""Check that nobody changed the audit log."""

import json
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from projects.chains import ChainReport, check_chains


class Command(BaseCommand):
    help = "Check every hash chain of the audit log. Ends with code 1 when one is broken."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", type=UUID, metavar="ID", help="check this project's chain alone")
        parser.add_argument("--json", action="store_true", help="write one JSON object per line, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        checked = broken = 0
        for report in check_chains(options["project"]):
            checked, broken = checked + 1, broken + (not report.is_whole)
            self.stdout.write(_as_json(report) if options["json"] else _as_text(report))
        if broken:
            raise CommandError(f"{broken} of {checked} chains {'is' if broken == 1 else 'are'} broken.", returncode=1)


def _as_text(report: ChainReport) -> str:
    state = f"BROKEN at row {report.found.seq}: {report.found.problem}" if report.found else "whole"
    return f"{report.chain:<36}  {report.rows:>9,} rows  {state}"


def _as_json(report: ChainReport) -> str:
    first = {"seq": report.found.seq, "problem": report.found.problem} if report.found else None
    return json.dumps({"chain": report.chain, "rows": report.rows, "whole": report.is_whole, "break": first})
