"""Ends what runs in sandboxes of one machine, as the stop of the whole does; fails when something is left.

The machine goes with its house, so the rules go that it had the host keep for its containers' networks.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")

from django.conf import settings

from agents.ending import end_all  # asks no database, so Django's rows need not be loaded
from agents.sandboxes import every_runtime

if __name__ == "__main__":
    if left := end_all():
        sys.exit("; ".join(left))
    if (Path(settings.EKLAVYA_VAR) / "sandboxes" / "docker").exists():
        every_runtime()[0].remove_rules()
