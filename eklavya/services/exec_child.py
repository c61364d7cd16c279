"""Turns itself into a command that does not outlive its parent, as another user where one is named.

Run by path, with the standard library only, because it stands between a supervisor and each of its children:

    python -I -S exec_child.py PARENT_PID SIGNAL USER PROGRAM ARGUMENTS...

PROGRAM is a full path; USER "-" keeps the present one.

When the parent dies, even by SIGKILL, the kernel sends SIGNAL to the command (Linux only; elsewhere the
next start reaps it).
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    """Drop root for ``user``, with no group but its own."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME="/", USER=user, LOGNAME=user)


def die_with_parent(parent: int, *, signal_number: int) -> None:
    """Ask for the signal at the parent's death. After ``become``: a change of user clears the request."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:  # it died before the request
        sys.exit(f"the process {parent} that wanted this is gone")


def main(arguments: list[str]) -> None:
    """Replace this process by the command."""
    parent, signal_number, user, *command = arguments
    if user != "-":
        become(user)
    die_with_parent(int(parent), signal_number=int(signal_number))
    # not execvp: it imports a module, which the user may not be allowed to read any more
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
