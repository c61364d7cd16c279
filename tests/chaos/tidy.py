"""What one machine does some minutes later, done at once; says what is left on it then that belongs to nothing."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")
django.setup()

from django.conf import settings  # noqa: E402

from agents.clock import house_now  # noqa: E402
from agents.sandboxes import runtime  # noqa: E402
from agents.supervisor import orphans  # noqa: E402
from demos import keeper, previews  # noqa: E402
from demos.queries import wanting_preview  # noqa: E402


def main() -> None:
    house_now.compare()
    now = house_now()
    there = runtime()
    orphans.clear(there, now=now + orphans.KEPT_FOR + timedelta(minutes=1))
    keeper.keep(there)
    here = list(wanting_preview(now).filter(kept_by=settings.EKLAVYA_WORKER_NAME))
    wanted = {keeper.preview_of(demo).name for demo in here}
    sandboxes = [name for name in there.list_sandboxes() if name not in wanted]
    var = Path(settings.EKLAVYA_VAR)
    directories = [str(path) for part in ("runs", "checks") for path in (var / part).glob("*")]
    shown = {str(demo.pk) for demo in here}
    directories += [str(path) for path in previews.list_directories(var / "previews") if path.name not in shown]
    sys.stdout.write(json.dumps({"sandboxes": sandboxes, "directories": directories}) + "\n")


if __name__ == "__main__":
    main()
