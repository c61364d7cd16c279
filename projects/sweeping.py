"""Taking the steps of a periodic task, of which one that breaks must not keep the others, night after night."""

from collections.abc import Callable

from django.db import InterfaceError, OperationalError


def take_each(*steps: Callable[[], object]) -> None:
    """Take each step, and then raise an ExceptionGroup of what broke, for the log.

    A database that is away is away for all: what it raises ends this at once.
    """
    broken = []
    for step in steps:
        try:
            step()
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            broken.append(error)
    if broken:
        raise ExceptionGroup("Steps broke; the others were taken.", broken)
