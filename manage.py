#!/usr/bin/env python
"""Django's command line for Eklavya."""

import os
import sys

from django.core.management import execute_from_command_line
from django.db import OperationalError


def main() -> None:
    """Run a command. A database that does not answer ends it with one line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "eklavya.settings")
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        # slow to import, and needed for this alone
        from eklavya.env import Env  # noqa: PLC0415
        from eklavya.services.running import why_unreachable  # noqa: PLC0415

        if not (sentence := why_unreachable(error, Env())):
            raise
        sys.exit(f"eklavya: {sentence}")


if __name__ == "__main__":
    main()
