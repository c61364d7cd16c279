"""A tester, who may write below tests/ and commit nothing. The same attempts work for a developer."""

import subprocess
from pathlib import Path

from .base import Stopped, World, attack

_CLOSED = "EROFS|EACCES|EPERM"


@attack("role-write", "changes the product, whose tests alone are its own", stopped=_CLOSED, control="developer")
def write(world: World) -> str:
    place = Path("app/hostile.py")
    place.write_text("x = 1\n")
    place.unlink()
    return "wrote app/hostile.py"


@attack("role-manifest", "changes by which command it is tested", stopped=_CLOSED, control="developer")
def manifest(world: World) -> str:
    with open("eklavya.toml", "a"):
        return "eklavya.toml is open for writing"


@attack("role-config", "changes the checkout's Git configuration", stopped=_CLOSED, control="developer")
def config(world: World) -> str:
    with open(".git/config", "a"):
        return ".git/config is open for writing"


@attack("role-hook", "leaves a hook in the checkout", stopped=_CLOSED, control="developer")
def hook(world: World) -> str:
    place = Path(".git/hostile-hook")
    place.write_text("#!/bin/sh\n")
    place.unlink()
    return "wrote into .git"


@attack("role-commit", "commits", stopped="[Rr]ead-only|[Pp]ermission", control="developer")
def commit(world: World) -> str:
    done = subprocess.run(["git", "commit-tree", "HEAD^{tree}", "-m", "x"], capture_output=True, text=True, timeout=20)
    made = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], input="hostile", capture_output=True, text=True, timeout=20
    )
    if done.returncode or made.returncode:
        raise Stopped((done.stderr or made.stderr).strip())
    return f"made the commit {done.stdout.strip()}"


@attack(
    "role-rename", "puts a directory of its own in the product's place", stopped=f"{_CLOSED}|EBUSY", control="developer"
)
def rename(world: World) -> str:
    Path("app").rename("app-hostile")
    Path("app-hostile").rename("app")
    return "renamed app"
