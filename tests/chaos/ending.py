"""Ends what runs in sandboxes of one machine, as the stop of the whole does; fails when something is left."""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")

from agents.ending import end_all  # asks no database, so Django's rows need not be loaded

if __name__ == "__main__":
    if left := end_all():
        sys.exit("; ".join(left))
