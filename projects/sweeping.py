"""Taking the steps of a periodic task, of which one that breaks must not keep the others, night after night."""

from collections.abc import Callable

from django.db import InterfaceError, OperationalError, connection


def take_each(*steps: Callable[[], object]) -> None:
    """Take each step, and then raise an ExceptionGroup of what broke, for the log.

    A database that is away is away for all: what it raises ends this at once.
    """
    broken = []
    for step in steps:
        try:
            step()
        except Exception as error:
            if is_away(error):
                raise
            broken.append(error)
    if broken:
        raise ExceptionGroup("Steps broke; the others were taken.", broken)


def is_away(error: Exception) -> bool:
    """Whether an error says that the database is away, and not only that one statement waited for too long, met a
    deadlock or lacked room: those are OperationalErrors too, and leave the connection fit for the next."""
    return isinstance(error, InterfaceError) or (isinstance(error, OperationalError) and not connection.is_usable())
