"""Processes that are not our children: signals to them, and their end."""

import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

_POLL_SECONDS = 0.05


def send(process: psutil.Process, number: int) -> None:
    """Send a signal, if the process is still there."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def wait_gone(processes: Iterable[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until they have ended; returns those that have not.

    A zombie has ended: in a container nobody may ever collect it.
    """
    alive = list(processes)
    deadline = time.monotonic() + seconds
    while alive := [process for process in alive if not _has_ended(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return alive


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
