"""Giving the directories of a sandbox to the user that runs in it, when the platform itself runs as root."""

import os
import stat
from pathlib import Path

from agents.runtimes.errors import InvalidSpec

__all__ = ["SANDBOX_UID", "give", "sandbox_user"]

SANDBOX_UID = 1000
"""Who runs inside when the platform is root; the image names this uid `agent`."""


def sandbox_user() -> tuple[int, int]:
    """The uid and gid inside: the platform's own, so that files need no change of owner; never root's."""
    return (os.getuid(), os.getgid()) if os.getuid() != 0 else (SANDBOX_UID, SANDBOX_UID)


def give(directory: Path, *, uid: int, gid: int) -> None:
    """Make `uid` the owner of the directory and all in it; does nothing unless the platform is root.
    Idempotent.

    Symbolic links are given away, never followed, and directories are walked by descriptor: a sandbox that
    still runs cannot point us at a file elsewhere. A file with a second name elsewhere would be given away
    under that name too, so it is refused with InvalidSpec.
    """
    if os.getuid() != 0:
        return
    for root, directories, files, descriptor in os.fwalk(directory):
        os.fchown(descriptor, uid, gid)
        for name in directories + files:
            _give_entry(name, descriptor, Path(root), uid=uid, gid=gid)


def _give_entry(name: str, directory: int, path: Path, *, uid: int, gid: int) -> None:
    try:
        entry = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if entry.st_uid == uid and entry.st_gid == gid:
            return
        if entry.st_nlink > 1 and not stat.S_ISDIR(entry.st_mode):
            raise InvalidSpec(f"{path / name} has a second name (a hard link): clone with --no-hardlinks, or copy")
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:  # removed while we looked
        return
