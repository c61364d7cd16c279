"""The system user that PostgreSQL runs as when root starts it, which it would refuse otherwise."""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from eklavya.services.errors import ServiceError

NAME = "eklavya-postgres"


def needed() -> str | None:
    """The user to run as: none unless we are root."""
    return NAME if os.geteuid() == 0 else None


def ids() -> pwd.struct_passwd | None:
    """The user's entry, where it is needed and exists."""
    try:
        return pwd.getpwnam(NAME) if needed() else None
    except KeyError:
        return None


def ensure() -> None:
    """Create the user where it is needed and missing."""
    if needed() is None or ids():
        return
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        problem = str(getattr(error, "stderr", None) or error).strip()
        fix = "start as an ordinary user instead"
        raise ServiceError(f"cannot create the user {NAME} that PostgreSQL runs as ({problem}): {fix}") from None


def give(path: Path) -> None:
    """Make the user the owner."""
    shutil.chown(path, NAME, NAME)


def let_pass(path: Path) -> None:
    """Let the user walk through the directories above ``path``: search only, not list or read."""
    for directory in path.parents:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)


def let_read(tree: Path, *, program: Path) -> None:
    """Let the user read and run what lies in ``tree``, where it was installed under a strict umask."""
    if program.stat().st_mode & stat.S_IXOTH:
        return
    for path in tree.rglob("*"):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
