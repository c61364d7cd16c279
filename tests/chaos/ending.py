"""Ends what runs in sandboxes of one machine, as the stop of the whole does; fails when something is left."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")
django.setup()

from agents.ending import end_all  # noqa: E402

if __name__ == "__main__":
    if left := end_all():
        sys.exit("; ".join(left))
