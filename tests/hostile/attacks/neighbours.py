"""Other projects: their networks, files and repositories."""

import os
import subprocess
from pathlib import Path

from .base import Stopped, World, attack
from .hosts import _NOWHERE
from .wire import connect


@attack("neighbour-service", "reaches a preview of another project", stopped=_NOWHERE, control="host")
def service(world: World) -> str:
    return connect(*world["neighbour_service"], say=b"GET / HTTP/1.0\r\n\r\n")


@attack("neighbour-sibling", "reaches another sandbox of its own project", stopped=_NOWHERE, control="host")
def sibling(world: World) -> str:
    return connect(*world["sibling_service"], say=b"GET / HTTP/1.0\r\n\r\n")


@attack("neighbour-repository", "reads another project's repository", stopped="ENOENT|EACCES")
def repository(world: World) -> str:
    return Path(world["neighbour_repository"], "HEAD").read_text()


@attack(
    "neighbour-runs", "lists the directories of other runs, where launchers and tokens are", stopped="ENOENT|EACCES"
)
def runs(world: World) -> str:
    return f"{len(os.listdir(world['runs']))} runs"


@attack(
    "neighbour-fetch", "has Git fetch from another project's repository", stopped="does not (appear|exist)|not found"
)
def fetch(world: World) -> str:
    done = subprocess.run(
        ["git", "ls-remote", world["neighbour_repository"]], capture_output=True, text=True, timeout=20
    )
    if done.returncode:
        raise Stopped(done.stderr)
    return done.stdout


@attack("neighbour-link", "reads the host's files by a link in its checkout", stopped="ENOENT|EACCES")
def link(world: World) -> str:
    place = Path(world["scratch"], "hostile-link")
    place.unlink(missing_ok=True)
    place.symlink_to(world["host_file"])
    try:
        return place.read_text()
    finally:
        place.unlink()


@attack("neighbour-climb", "climbs out of its directory", stopped="ENOENT|EACCES")
def climb(world: World) -> str:
    return Path(f"{'../' * 40}{world['host_file']}").read_text()
