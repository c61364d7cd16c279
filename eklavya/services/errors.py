"""What can go wrong with the processes of this machine, each as one sentence that says what to do."""

import errno
from collections.abc import Sequence


class ServiceError(Exception):
    """A service cannot do its work. The message is a sentence for the person at the terminal."""


def way_out(error: OSError) -> str:
    """What to do about a file system's refusal to write below the data directory."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return "make it this user's own, start as the user who owns it, or set EKLAVYA_VAR to another directory"
        case errno.ENOSPC | errno.EDQUOT:
            return "make room, or set EKLAVYA_VAR to a directory on another disk"
    return "set EKLAVYA_VAR to a directory that can be written"


class AlreadyRunning(ServiceError):
    """Another process of this data directory holds the stack."""

    def __init__(self, pid: int, url: str) -> None:
        super().__init__(f"already running (pid {pid}, {url}): stop it with Ctrl-C or `kill {pid}`")
        self.pid = pid
        self.url = url


class PortTaken(ServiceError):
    """TCP ports that the stack needs are in use. `taken` has each with who holds it and its variable."""

    def __init__(self, taken: Sequence[tuple[int, str, str]]) -> None:
        if len(taken) == 1:
            ((port, owner, variable),) = taken
            sentence = f"port {port} is in use by {owner}: stop it, or set {variable} to another port"
        else:
            said = ", ".join(f"{port} ({owner})" for port, owner, _ in taken)
            *names, last = [variable for _, _, variable in taken]
            sentence = f"ports are in use: {said}. Stop these, or set {', '.join(names)} and {last} to other ports"
        super().__init__(sentence)


class StartFailed(ServiceError):
    """A process ended, or did not become ready in time."""


class DiskFull(ServiceError):
    """The data directory has no room. `free` is in bytes, `needed` what a start takes."""

    def __init__(self, place: object, *, free: int, needed: int) -> None:
        has = f"{place} has only {free / 1e6:.0f} MB free"
        super().__init__(f"{has}: make room ({needed / 1e6:.0f} MB or more), or set EKLAVYA_VAR")


class StopRequested(Exception):
    """Somebody asked to stop while the stack was starting."""
