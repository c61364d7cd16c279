"""Where the embedded servers put their Unix sockets.

The place follows from the data directory alone, so that each process knows it before the servers run.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from eklavya.services import account
from eklavya.services.errors import ServiceError

# sun_path holds 108 bytes with its closing zero; PostgreSQL's name in the directory is the longer one.
_LONGEST_PATH = 107
_LONGEST_NAME = "/.s.PGSQL.5432"

# A failed connection shows this name to whoever works with a stopped database, so it says what starts one.
_NAME = "started-by-make-run"


def socket_directory(var: Path) -> Path:
    """Directory of the sockets: below ``var``, or in the temporary directory where that path is too long."""
    inside = var / "run" / _NAME
    if len(os.fsencode(inside)) + len(_LONGEST_NAME) <= _LONGEST_PATH:
        return inside
    digest = hashlib.sha256(os.fsencode(var)).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"eklavya-{os.getuid()}-{digest}"


def make_socket_directory(var: Path) -> Path:
    """The directory, made and closed to others (0700).

    Raises ServiceError where somebody else made it first: the temporary directory is everybody's.
    """
    path = socket_directory(var)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    database_user = account.ids()
    owners = {os.getuid(), database_user.pw_uid if database_user else os.getuid()}
    if path.is_symlink() or path.lstat().st_uid not in owners:
        problem = f"{path} belongs to somebody else"
        raise ServiceError(f"{problem}: remove it, or set EKLAVYA_VAR to a shorter path")
    path.chmod(0o700)
    return path


def remove_socket_directory(var: Path) -> None:
    """Tidy up behind servers that have ended: killed ones leave their sockets."""
    shutil.rmtree(socket_directory(var), ignore_errors=True)


def postgres_url(var: Path) -> str:
    """Address of the embedded PostgreSQL of this data directory."""
    return f"postgres:///eklavya?user=eklavya&host={socket_directory(var)}"


def valkey_socket(var: Path) -> Path:
    """Socket of the embedded Valkey of this data directory."""
    return socket_directory(var) / "valkey.sock"


def valkey_url(var: Path) -> str:
    """Address of the embedded Valkey, in redis-py's form."""
    return f"unix://{valkey_socket(var)}"
