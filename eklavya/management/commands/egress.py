"""`manage.py egress`: the egress proxy, in the foreground, until SIGTERM or SIGINT."""

import asyncio
import resource
import signal
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from agents.gateway.egress.server import EgressProxy

# Each connection of a run takes two. The soft limit of most systems, 1024, would be reached by sixteen runs.
_FILES = 65_536


class Command(BaseCommand):
    help = "Serve the proxy through which sandboxes reach what their role's egress class lists."
    # a program, not a task of the set-up: what is wrong shows when it works
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=settings.EKLAVYA_EGRESS_PORT)

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        """Serve until told to stop; the record is written to its end."""
        _raise_file_limit()
        asyncio.run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    serving = asyncio.create_task(EgressProxy().serve(host, port))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
