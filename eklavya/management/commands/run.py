"""`manage.py run`: everything of one machine, in the foreground, until Ctrl-C."""

import signal
import sys
import time
import tomllib
from collections.abc import Callable
from io import StringIO
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections

from agents.ending import end_all
from demos.tasks import stop_all_previews
from eklavya.env import BASE_DIR, Env
from eklavya.login_links import make_link
from eklavya.management.commands._screen import Fact, Screen
from eklavya.management.commands.login_link import first_admin
from eklavya.services.components import WORKER_STOP_SECONDS, runtime_choice
from eklavya.services.errors import AlreadyRunning, ServiceError, StopRequested
from eklavya.services.stack import Stack

_POLL_SECONDS = 0.5
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Command(BaseCommand):
    """Start, watch and stop all processes."""

    help = "Start Eklavya on this machine: servers, web, agents. Ctrl-C stops it, the data is kept."
    # the database that checks would ask for is yet to be started
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop. Problems end it with one line and exit code 1."""
        screen = Screen()
        env = personal(Env())
        # this process ends previews itself
        settings.EKLAVYA_ALLOW_LOCAL_RUNTIME = env.EKLAVYA_ALLOW_LOCAL_RUNTIME
        stack = Stack(env, report=screen.report, on_stop=stop_all_previews, end_rest=end_all, set_up=set_up)
        on_stop_signals(_stopper(stack, screen))
        try:
            run(stack, screen)
        except AlreadyRunning as problem:
            screen.end_progress()
            self.stdout.write(f"Eklavya is {problem}")
            screen.facts(sign_in(env))
        except ServiceError as problem:
            screen.end_progress()
            self.stderr.write(f"eklavya: {problem}")
            if stack.left:
                screen.farewell("", left=stack.left)
            sys.exit(1)
        if stack.left:
            sys.exit(1)


def set_up() -> None:
    """Do what `manage.py setup` does, in this process."""
    try:
        call_command("setup", stdout=StringIO())
    finally:
        connections.close_all()


def on_stop_signals(act: Callable[[int, FrameType | None], None]) -> None:
    """From now on have this happen when somebody wants this process to end: to its end, also while it stops."""
    for number in _STOP_SIGNALS:
        signal.signal(number, act)


def run(stack: Stack, screen: Screen) -> None:
    """Start the stack, show where it is, watch it until a stop is asked for, stop it."""
    began = time.monotonic()
    screen.header(_version(), var=stack.var)
    try:
        stack.start()
    except StopRequested:
        screen.farewell("stopped before it was ready; the data is kept", left=stack.left)
        return
    try:
        screen.ready(overview(stack.env), seconds=time.monotonic() - began)
        while not stack.stop_requested:
            stack.poll()
            time.sleep(_POLL_SECONDS)
    finally:
        stack.stop()
    screen.farewell(f"stopped; the data is kept in {stack.var}", left=stack.left)


def overview(env: Env) -> list[Fact]:
    """What a person needs to know about a running Eklavya."""
    runtime, reason, *_ = runtime_choice(env)
    isolation = "" if runtime.isolated else ", NOT ISOLATED"
    model = "REHEARSAL: no ANTHROPIC_API_KEY, so a scripted model plays every role"
    return [
        *sign_in(env),
        Fact("Agents", f"{runtime.name}{isolation}: {reason}", warns=not runtime.isolated),
        Fact("Model", model if env.rehearsal else f"real: {env.model_url}", warns=env.rehearsal),
        Fact("Data", str(env.EKLAVYA_VAR)),
        Fact("Logs", str(env.EKLAVYA_VAR / "logs")),
        Fact("Stop", "Ctrl-C (again: at once)"),
    ]


def sign_in(env: Env) -> list[Fact]:
    """The portal's address, with a sign-in that works once where there is an administrator."""
    if (admin := first_admin()) is None:
        return [Fact("Open", env.public_url)]
    ends = f"(signs {admin.username} in once, within {settings.LOGIN_LINK_MINUTES} minutes)"
    return [Fact("Open", make_link(admin)), Fact("", ends)]


def personal(env: Env) -> Env:
    """The environment of a person's own machine: what isolates nothing is allowed there, unless it was forbidden."""
    if "EKLAVYA_ALLOW_LOCAL_RUNTIME" in env.model_fields_set:
        return env
    return env.model_copy(update={"EKLAVYA_ALLOW_LOCAL_RUNTIME": True})


def _stopper(stack: Stack, screen: Screen) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        if not stack.stop_requested:
            limit = f"at most {WORKER_STOP_SECONDS} s"
            screen.say(f"\nstopping: agents may reach a checkpoint ({limit}; Ctrl-C again: at once)")
        elif not stack.is_hurried:
            screen.say("\nending everything at once, what agents and previews run too")
        stack.request_stop()

    return stop


def _version() -> str:
    return str(tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
