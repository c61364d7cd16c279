"""The person of a run: starts projects, decides what they ask, and is patient with servers that are away.

`python -m tests.chaos.client`, in the environment of the house. Prints a line of JSON per news, and the outcomes last.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")
django.setup()

from django.db import close_old_connections  # noqa: E402
from rich.console import Console  # noqa: E402

from agents.supervisor.connections import AWAY  # noqa: E402
from eklavya.management.commands.rehearse import MORE_BRIEFS  # noqa: E402
from eklavya.rehearse import decider  # noqa: E402
from eklavya.rehearse.driver import Outcome, Rehearsal  # noqa: E402
from eklavya.rehearse.timeline import JsonLines  # noqa: E402
from projects.briefs import SAMPLE_BRIEF  # noqa: E402

T = TypeVar("T")
PATIENCE_S = 120
# Looking at twenty projects ten times a second is more work than theirs.
LOOK_S = 0.5
LOOK_AGAIN_S = 0.5
# Each kill of an agent counts as a failed attempt, and the person of a rehearsal gives up after two blocked tasks.
RETRIES = 1_000


class Patient(Rehearsal):
    """Projects whose database may be away for a while."""

    def run(self) -> list[Outcome]:
        """As the rehearsal itself; each look is taken again while the database does not answer."""
        self._began = time.monotonic()
        made = [patiently(partial(self._create, brief)) for brief in self._briefs]
        open_projects = {project.pk: project for project in made}
        while open_projects and time.monotonic() - self._began < self._timeout_s:
            for project in list(open_projects.values()):
                patiently(partial(self._look, project))
                if patiently(partial(self._is_over, project)):
                    self._ended_s[project.pk] = time.monotonic() - self._began
                    del open_projects[project.pk]
            time.sleep(LOOK_S)
        return [patiently(partial(self._conclude, project)) for project in made]


def patiently(step: Callable[[], T]) -> T:
    """Take a step, again and again while the database does not answer."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return step()
        except AWAY:
            if time.monotonic() > give_up:
                raise
            close_old_connections()
            time.sleep(LOOK_AGAIN_S)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--projects", type=int, required=True)
    parser.add_argument("--demo-only", action="store_true")
    parser.add_argument("--timeout", type=float, required=True)
    options = parser.parse_args()
    decider.MAX_RETRIES = RETRIES
    all_briefs = (SAMPLE_BRIEF, *MORE_BRIEFS)
    briefs = [all_briefs[number % len(all_briefs)] for number in range(options.projects)]
    with JsonLines(Console(highlight=False, file=sys.stdout)) as view:
        done = Patient(
            briefs,
            demo_only=options.demo_only,
            timeout_s=options.timeout,
            tell=view.tell,
            tick=view.tick,
        ).run()
    view.conclude(done)


if __name__ == "__main__":
    main()
