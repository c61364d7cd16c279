"""A canonical repository as one file, with all references as they were at one moment, and back again.

The file is a Git bundle: without Eklavya, `git clone FILE` gives main. Only what a reference leads to is in it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from agents.workspace import names
from agents.workspace.errors import GitFailed
from agents.workspace.git import Git

# Of a whole repository, on a slow disk.
_WHOLE_S = 3600.0

Refs = Mapping[str, str]
"""Reference -> commit id."""


def refs(git: Git) -> dict[str, str]:
    """Return every reference and where it is."""
    lines = git.text("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def write(git: Git, found: Refs, to: IO[bytes]) -> None:
    """Write the bundle of these references. They may have moved or gone meanwhile: their commits are still there."""
    listed = {"HEAD": found[names.MAIN], **found} if names.MAIN in found else dict(found)
    to.write(b"# v2 git bundle\n")
    to.writelines(f"{commit} {ref}\n".encode() for ref, commit in listed.items())
    to.write(b"\n")
    tips = "".join(f"{commit}\n" for commit in sorted(set(found.values())))
    packing = ("pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset")
    for chunk in git.stream(*packing, stdin=tips.encode(), timeout_s=_WHOLE_S):
        to.write(chunk)


def read(git: Git, bundle: Path, expected: Refs) -> None:
    """Take a bundle into a new repository, every object checked. Raises GitFailed; the repository is useless then."""
    git.run("fetch", "--quiet", "--no-write-fetch-head", bundle.absolute(), "+refs/*:refs/*", timeout_s=_WHOLE_S)
    if refs(git) != dict(expected):
        raise GitFailed("fetch", 0, f"{bundle.name} has other references than the backup's manifest")


def discard(path: Path) -> None:
    """Remove a repository that was not finished."""
    shutil.rmtree(path, ignore_errors=True)
