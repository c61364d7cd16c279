"""Check that nobody changed the audit log."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from projects import anchors, audit_exports
from projects.anchors import Anchors, InvalidAnchor
from projects.audit_exports import Checked, InvalidExport
from projects.chains import ChainReport, check_chains


class Command(BaseCommand):
    help = (
        "Check every hash chain of the audit log, in the database or, with --file, in an export of export_audit, for "
        "which no database is needed. Ends with code 1 when one is broken, 2 for a file that cannot be read."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--project", type=UUID, metavar="ID", help="check this project's chain alone")
        where.add_argument("--file", type=Path, help="check this export instead of the database")
        parser.add_argument("--anchor", type=Path, metavar="FILE", help="compare with this anchor of audit_anchor too")
        parser.add_argument("--json", action="store_true", help="write one JSON object per line, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        checked = broken = 0
        about = Checked()
        try:
            kept = anchors.read(options["anchor"]) if options["anchor"] else {}
            for report in _reports(options["file"], options["project"], kept, about):
                checked, broken = checked + 1, broken + (not report.is_whole)
                self.stdout.write(_as_json(report) if options["json"] else _as_text(report))
        except (InvalidAnchor, InvalidExport) as error:
            raise CommandError(str(error), returncode=2) from error
        if about.unanchored:
            scope = f"This export has the chain {about.scope} alone"
            self.stderr.write(f"{scope}: {len(about.unanchored)} anchored chains were not checked.")
        if broken:
            raise CommandError(f"{broken} of {checked} chains {'is' if broken == 1 else 'are'} broken.", returncode=1)


def _reports(file: Path | None, project_id: UUID | None, kept: Anchors, about: Checked) -> Iterator[ChainReport]:
    if file is None:
        return check_chains(project_id, anchors=kept)
    return audit_exports.check(file, kept, about)


def _as_text(report: ChainReport) -> str:
    state = f"BROKEN at row {report.found.seq}: {report.found.problem}" if report.found else "whole"
    return f"{report.chain:<36}  {report.rows:>9,} rows  {state}"


def _as_json(report: ChainReport) -> str:
    first = {"seq": report.found.seq, "problem": report.found.problem} if report.found else None
    return json.dumps({"chain": report.chain, "rows": report.rows, "whole": report.is_whole, "break": first})
