"""Compare the ledger with a provider's export."""

from argparse import ArgumentParser, ArgumentTypeError
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import usage_exports
from billing.errors import InvalidExport
from billing.reconciliation import COST, Difference, compare


def percent(text: str) -> Decimal:
    """Read the tolerance."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and 0 <= value <= 100):
        raise ArgumentTypeError("give a number from 0 to 100")
    return value


class Command(BaseCommand):
    help = (
        "Compare the ledger with a provider's export of usage or cost, by day (UTC) and model. Reads Anthropic's CSV "
        "files and Admin API reports. Ends with code 0 within the tolerance, 1 with drift, 2 for an unreadable file."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--tolerance", type=percent, default=Decimal(1), metavar="PERCENT", help="default: 1")
        parser.add_argument("--api-key", default="", metavar="NAME", help="compare what this key used: its name or id")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            export = usage_exports.read(options["file"], api_key=options["api_key"])
        except InvalidExport as error:
            raise CommandError(str(error), returncode=2) from error
        differences = compare(export)
        drifted = [one for one in differences if not one.is_within(options["tolerance"])]
        self._table(differences, drifted)
        if drifted:
            raise CommandError(
                f"{len(drifted)} of {len(differences)} numbers differ by more than {options['tolerance']} %.",
                returncode=1,
            )
        self.stdout.write(f"{len(differences)} numbers agree within {options['tolerance']} %")

    def _table(self, differences: list[Difference], drifted: list[Difference]) -> None:
        """Write what is not nothing, and mark what drifts."""
        shown = [one for one in differences if one.ours or one.theirs]
        if shown:
            head = f"{'day':<10}  {'model':<24} {'what':<24} {'ledger':>16} {'provider':>16} {'drift':>14}"
            self.stdout.write(head)
        for one in shown:
            ours, theirs, drift = (_number(value, one.what) for value in (one.ours, one.theirs, one.drift))
            mark = f"  DRIFT {one.percent:+.1f} %" if one in drifted else ""
            name = f"{one.day}  {one.model[:24]:<24} {one.what:<24}"
            self.stdout.write(f"{name} {ours:>16} {theirs:>16} {drift:>14}{mark}")


def _number(value: Decimal, what: str) -> str:
    return f"{value:,.6f}" if what == COST else f"{value:,.0f}"
