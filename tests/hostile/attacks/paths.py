"""What of the sandbox itself can be changed."""

import os
from pathlib import Path

from .base import World, attack

_CLOSED = "EROFS|EACCES|EPERM"


@attack("path-image", "changes programs of the image", stopped=_CLOSED)
def image(world: World) -> str:
    Path("/usr/bin/hostile").write_text("#!/bin/sh\n")
    return "made /usr/bin/hostile"


@attack("path-hosts", "changes where names lead", stopped=_CLOSED)
def names(world: World) -> str:
    with open("/etc/hosts", "a") as file:
        file.write("")
    return "/etc/hosts is open"


@attack("path-cli", "changes the agent's program", stopped=f"{_CLOSED}|ETXTBSY")
def cli(world: World) -> str:
    with open("/opt/eklavya/claude", "r+b"):
        return "the CLI is open for writing"


@attack("path-shadow", "reads the image's passwords", stopped="EACCES|EPERM")
def shadow(world: World) -> str:
    return Path("/etc/shadow").read_text()[:20]


@attack("path-give-away", "gives a file of its checkout to root", stopped="EPERM")
def give_away(world: World) -> str:
    place = Path(world["scratch"], "hostile-gift")
    place.touch()
    try:
        os.chown(place, 0 if os.getuid() else 12345, -1)
    finally:
        place.unlink()
    return "given away"
