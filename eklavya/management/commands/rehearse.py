"""`manage.py rehearse`: the whole line from the shell, from a brief to the delivered repository."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console

from agents.ending import end_all
from demos.tasks import stop_all_previews
from eklavya.env import Env
from eklavya.management.commands._screen import Screen
from eklavya.management.commands.run import on_stop_signals, personal, set_up
from eklavya.rehearse.driver import Rehearsal
from eklavya.rehearse.timeline import JsonLines, Timeline
from eklavya.services.errors import ServiceError, StopRequested
from eklavya.services.running import running
from eklavya.services.stack import Stack
from projects.briefs import SAMPLE_BRIEF, check_brief
from projects.errors import InvalidBrief

# More briefs for --projects: each must lead to another application.
MORE_BRIEFS = (
    "A dog groomer wants to book appointments: owners with their dogs, the breed, a date and time, a service and its "
    "price. She wants to see today's appointments and mark them as done.",
    "A small gallery keeps a catalogue of paintings: artist, title, year, size, price and whether it is sold. Visitors "
    "search by artist; the owner exports the list.",
    "Our football club plans training: teams, players with their birth date, trainings with date and place, and who "
    "attended.",
    "A bakery takes orders for cakes: customer, phone, cake, size, pick-up date and paid or not. In the morning the "
    "baker wants a list of what is due today.",
)


class Command(BaseCommand):
    """Create, decide, watch, check."""

    help = "Run a brief through the whole line with automatic approvals; exits 0 only if what is delivered passes."
    # The database that checks would ask for may be yet to be started.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Say what can be asked for."""
        parser.add_argument("brief", nargs="?", default=SAMPLE_BRIEF, help="what the client wants (default: a sample)")
        parser.add_argument("--demo-only", action="store_true", help="stop when the first demo can be looked at")
        parser.add_argument("--keep", action="store_true", help="then leave previews and portal up until Ctrl-C")
        parser.add_argument("--projects", type=int, default=1, metavar="N", help="run N projects at once")
        parser.add_argument("--json", action="store_true", help="print JSON lines instead of a timeline")
        parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="give up after so many seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; exit code 0 when every project ended as it should, 1 otherwise."""
        try:
            briefs = _briefs(check_brief(options["brief"]), options["projects"])
            with _stack(Env()) as is_ours:
                good = _rehearse(briefs, options)
                self._after(is_ours=is_ours, keep=options["keep"])
        except (InvalidBrief, ServiceError) as problem:
            self.stderr.write(f"eklavya: {problem}")
            sys.exit(1)
        except (KeyboardInterrupt, StopRequested):
            self.stderr.write("eklavya: stopped; the data is kept")
            sys.exit(130)
        if not good:
            sys.exit(1)

    def _after(self, *, is_ours: bool, keep: bool) -> None:
        """Say how long what was shown can be looked at, where this command started the servers; with `keep` wait."""
        if not is_ours:
            return
        if not keep:
            self.stderr.write("the servers stop now; `make run` serves portal and previews again")
            return
        self.stderr.write("portal and previews stay up until Ctrl-C")
        with suppress(KeyboardInterrupt):
            Event().wait()


def _rehearse(briefs: list[str], options: dict[str, Any]) -> bool:
    console = Console(highlight=False)
    view = JsonLines(console) if options["json"] else Timeline(console, several=len(briefs) > 1)
    with view:
        rehearsal = Rehearsal(
            briefs, demo_only=options["demo_only"], timeout_s=options["timeout"], tell=view.tell, tick=view.tick
        )
        outcomes = rehearsal.run()
    view.conclude(outcomes)
    return not any(outcome.problems for outcome in outcomes)


def _briefs(first: str, count: int) -> list[str]:
    if count < 1:
        raise ServiceError(f"--projects {count}: run at least one")
    others = (MORE_BRIEFS[number % len(MORE_BRIEFS)] for number in range(count - 1))
    return [first, *others]


@contextmanager
def _stack(env: Env) -> Iterator[bool]:
    """Use what is running, or start everything for the length of the `with`; yields whether it did."""
    if running(env) is not None:
        yield False
        return
    screen = Screen(out=Console(stderr=True))
    stack = Stack(personal(env), report=screen.report, on_stop=stop_all_previews, end_rest=end_all, set_up=set_up)

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stack.request_stop()

    began = time.monotonic()
    on_stop_signals(ask_to_stop)
    try:
        stack.start()
        screen.say(f"  ready in {time.monotonic() - began:.1f} s\n")
        done = Event()
        watcher = Thread(target=_watch, args=(stack, done), daemon=True)
        watcher.start()
        on_stop_signals(_interrupt)
        try:
            yield True
        finally:
            # Whoever asks from now on asks again, and nothing interrupts the stop.
            stack.request_stop()
            on_stop_signals(ask_to_stop)
            done.set()
            watcher.join()
            stack.stop()
    finally:
        if stack.left:
            screen.farewell("", left=stack.left)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _watch(stack: Stack, done: Event) -> None:
    while not done.wait(0.5):
        stack.poll()
