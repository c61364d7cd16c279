"""The container engine, by which one would own the host."""

import os
import socket
import stat
from contextlib import suppress

from .base import Stopped, World, attack
from .hosts import _NOWHERE
from .wire import connect

_PATHS = ("/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock")
_PING = b"GET /_ping HTTP/1.0\r\n\r\n"


def _ping(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as here:
        here.settimeout(2)
        here.connect(path)
        here.sendall(_PING)
        answer = here.recv(200)
    if b"HTTP/" not in answer:
        raise Stopped(f"{path} speaks no HTTP")
    return f"{path}: {answer[:30]!r}"


@attack("docker-socket", "speaks to the engine at its usual places", stopped="no socket at 4 places")
def usual(world: World) -> str:
    for path in _PATHS:
        with suppress(OSError, Stopped):
            return _ping(path)
    raise Stopped(f"no socket at {len(_PATHS)} places")


@attack("docker-search", "finds the engine's socket wherever it is", stopped="no engine among [0-9]+ sockets")
def search(world: World) -> str:
    seen = 0
    for place in ("/run", "/var", "/tmp", "/home", "/opt", "/mnt", "/dev", "/workspace"):
        for directory, _, names in os.walk(place):
            for name in names:
                path = f"{directory}/{name}"
                with suppress(OSError, Stopped):
                    if stat.S_ISSOCK(os.lstat(path).st_mode):
                        seen += 1
                        return _ping(path)
    raise Stopped(f"no engine among {seen} sockets")


@attack("docker-tcp", "speaks to the engine by TCP at the host", stopped=_NOWHERE)
def tcp(world: World) -> str:
    return connect(world["bridge"], world["docker_port"], say=_PING)
