"""The references of a canonical repository, and the spelling of what callers pass in.

refs/heads/main                             what is delivered; only ever grows
refs/eklavya/bases/<run id>                 the commit of main that a run's clone started from
refs/eklavya/runs/<run id>                  what was collected from it
refs/eklavya/checkpoints/<run id>/<seq>     snapshots while it ran
"""

import os
import re

from agents.workspace.errors import BadName

MAIN = "refs/heads/main"
PRIVATE = "refs/eklavya"

_RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_SHA = re.compile(r"[0-9a-f]{40}")
_CHECKPOINT = re.compile(r"refs/eklavya/checkpoints/([0-9A-Za-z][0-9A-Za-z_-]{0,63})/(0|[1-9][0-9]{0,8})")

_OF_RUN = re.compile(r"refs/eklavya/(?:bases|runs|checkpoints)/([0-9A-Za-z][0-9A-Za-z_-]{0,63})(?:/[0-9]+)?")


def check_run_id(run_id: str) -> str:
    """Give the id back when it can stand in a reference and a path; otherwise raise BadName."""
    if not _RUN_ID.fullmatch(run_id):
        raise BadName(f"not a run id: {run_id!r}")
    return run_id


def check_sha(commit: str) -> str:
    """Give the full, lower-case SHA-1 back; otherwise raise BadName. Never a name, so never an option."""
    if not _SHA.fullmatch(commit):
        raise BadName(f"not a full commit id: {commit!r}")
    return commit


def check_path(path: str) -> str:
    """Give a path inside a commit back ("" is the root); raise BadName for one that no commit can have."""
    if "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise BadName(f"not a path inside a repository: {path!r}")
    return path.strip("/")


def branch(run_id: str) -> str:
    """The branch a run works on in its own clone."""
    return f"run/{check_run_id(run_id)}"


def base_ref(run_id: str) -> str:
    """Where the canonical repository keeps the commit that a run started from."""
    return f"{PRIVATE}/bases/{check_run_id(run_id)}"


def run_ref(run_id: str) -> str:
    """Where the canonical repository keeps a run's collected commit."""
    return f"{PRIVATE}/runs/{check_run_id(run_id)}"


def checkpoint_ref(run_id: str, seq: int) -> str:
    """Where the canonical repository keeps a run's snapshot number `seq` (0 or more)."""
    ref = f"{PRIVATE}/checkpoints/{check_run_id(run_id)}/{seq}"
    checkpoint_run_id(ref)
    return ref


def checkpoint_run_id(ref: str) -> str:
    """The run that a checkpoint's reference belongs to; BadName when it is not such a reference."""
    match = _CHECKPOINT.fullmatch(ref)
    if match is None:
        raise BadName(f"not a checkpoint: {ref!r}")
    return match[1]


def run_id_of(ref: str) -> str:
    """The run that a reference of the platform's own belongs to; BadName when it is not such a reference."""
    match = _OF_RUN.fullmatch(ref)
    if match is None:
        raise BadName(f"not a reference of a run: {ref!r}")
    return match[1]


def printable(path: bytes) -> str:
    """A path for people, pages and JSON: bytes that are not UTF-8 show as \\xNN."""
    return path.decode("utf-8", "backslashreplace")


def to_bytes(path: str) -> bytes:
    """A path for git's command line."""
    return os.fsencode(path)
