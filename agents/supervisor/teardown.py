"""Removing what a run worked in, in two phases: first its work is confirmed, then the directories go.

Confirmed is what the canonical repository holds: the change that was collected (`Run.commit`), or a checkpoint of the
files as they are. A stamp beside the directory says so, and survives whoever set it: a removal that broke off halfway
is gone on with, and half a clone is never taken for work. What cannot be confirmed now stays; the sweep tries again.
"""

import logging
import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.db import Error as DatabaseError

from agents.actions import checkpoints, runs
from agents.models import Run
from agents.remote.files import FilesTooLarge, WorkerAway
from agents.runtimes.contract import Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import run_directory
from agents.supervisor.workplace import sandbox_of
from agents.workspace.errors import CloneTooLarge, CloneUnsafe, UnknownRun, WorkspaceError, WrongBranch

logger = logging.getLogger(__name__)

# So long a repository that is away is waited for. Then the work is given up, with a row that says so.
KEPT_FOR = timedelta(days=7)
_NEVER_TAKEN = (CloneUnsafe, CloneTooLarge, WrongBranch, UnknownRun)


def finish(run_id: UUID, runtime: Runtime, *, now: datetime) -> bool:
    """Kill a run's sandbox, confirm its work and remove its directories. Return whether they are gone.

    May be called again at any time, by anybody on this machine, whatever broke off before. Nobody may be at work on the
    run any more.
    """
    root = run_directory(run_id)
    try:
        with suppress(WorkerAway, FilesTooLarge):  # what is here is all there is
            runtime.kill(sandbox_of(run_id))
        if root.exists() and not is_confirmed(run_id):
            confirm(run_id, now=now)
        _remove(root, runtime)
        return not root.exists()
    except (WorkspaceError, OSError, DatabaseError, RuntimeProblem) as error:
        logger.warning("the work of run %s is kept where it is: %s", run_id, error)
        _look_later(root, now)
        return False


def is_confirmed(run_id: UUID) -> bool:
    """Whether somebody confirmed the work and began to remove it."""
    return _stamp(run_directory(run_id)).exists()


def confirm(run_id: UUID, *, now: datetime, resumes: bool = False) -> None:
    """Have the canonical repository hold all that a run made, and write down that it does.

    `resumes` as of `checkpoints.keep`. Raises WorkspaceError, OSError and what the database raises. A clone that breaks
    the rules can never be taken in: it is given up, and the audit log says why; so is what nobody took for a week, a
    damaged clone among it, since a broken disk looks the same.
    """
    run = Run.objects.select_related("task", "agent", "project").filter(pk=run_id).first()
    # Without a row the project is gone; with a commit the change was collected, after the last of its processes ended.
    if run is not None and not run.commit:
        try:
            checkpoints.keep(run, by=runs.SUPERVISOR, now=now, resumes=resumes)
        except _NEVER_TAKEN as error:
            checkpoints.give_up(run, str(error), by=runs.SUPERVISOR, now=now)
        except (WorkspaceError, OSError) as error:
            if run.finished_at is None or run.finished_at > now - KEPT_FOR:
                raise
            checkpoints.give_up(run, str(error), by=runs.SUPERVISOR, now=now)
    stamp = _stamp(run_directory(run_id))
    if stamp.parent.exists():
        stamp.touch(mode=0o600)


def clear_stamps() -> None:
    """Remove the stamps whose directory is gone: who removed it was killed before it came to them."""
    for stamp in run_directory(UUID(int=0)).parent.glob("*.confirmed"):
        if not stamp.with_suffix("").exists():
            stamp.unlink(missing_ok=True)


def _remove(root: Path, runtime: Runtime) -> None:
    runtime.remove_directory(root)
    # As long as anything is there, the stamp says that it may go.
    if not root.exists():
        _stamp(root).unlink(missing_ok=True)


def _stamp(root: Path) -> Path:
    return root.with_name(f"{root.name}.confirmed")


def _look_later(root: Path, now: datetime) -> None:
    """Have the sweep, which takes what is old, come back in some minutes."""
    try:
        os.utime(root, (now.timestamp(), now.timestamp()))
    except OSError:
        logger.info("%s cannot be touched", root)
