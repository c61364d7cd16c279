"""The long-term order of this machine: references that nothing needs, loose objects, permissions, idle networks.

The sweep (`supervisor.orphans`) clears up after dead processes within minutes; this looks at each repository once a
day, and what it drops nobody has asked for in weeks.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings

from agents.models import Run
from agents.runtimes.contract import Networked, Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import make_private, network_name, repository
from agents.states import ACTIVE_RUN
from agents.workspace import Repository
from agents.workspace.errors import WorkspaceError
from agents.workspace.names import base_ref, run_id_of
from projects.models import Project, Task
from projects.states import OPEN_TASK, TaskStatus

logger = logging.getLogger(__name__)

EVERY = timedelta(days=1)
# So long people may look at what a run that led to nothing had changed.
KEPT_FOR = timedelta(days=30)
# Longer than from a run's claim to its sandbox, mostly; a run that takes longer is among those at work.
IDLE_NETWORK = timedelta(minutes=1)
# What must not lie around at all.
_NOT_KEPT = "secrets_refused"
_PRIVATE = ("repositories", "runs", "checks")


def remove_idle_networks(runtime: Runtime) -> None:
    """Remove the networks of projects in which nothing runs: ended ones, and those that wait for somebody.

    The next sandbox of such a project has it made anew.
    """
    if not isinstance(runtime, Networked):
        return
    at_work = Run.objects.filter(status__in=ACTIVE_RUN).values_list("project_id", flat=True).distinct()
    try:
        removed = runtime.remove_idle_networks(
            idle_s=IDLE_NETWORK.total_seconds(), busy={network_name(project_id) for project_id in at_work}
        )
    except RuntimeProblem:  # the next sweep tries again
        logger.exception("networks could not be looked after")
    else:
        if removed:
            logger.info("removed the idle networks of %s", ", ".join(removed))


def maintain(*, now: datetime) -> None:
    """Look after the repositories whose turn it is. One that fails is logged, and the others are looked after."""
    for name in _PRIVATE:
        make_private(Path(settings.EKLAVYA_VAR) / name)
    for project_id in list(Project.objects.values_list("pk", flat=True)):
        store = repository(project_id)
        if not store.path.exists():
            continue
        with _its_turn(store, now) as is_its_turn:
            if is_its_turn:
                _maintain(store, project_id, now=now)


@contextmanager
def _its_turn(store: Repository, now: datetime) -> Iterator[bool]:
    """Whether nobody looks after the repository now or did so lately. The lock goes with the process."""
    with (store.path / "maintained").open("a") as stamp:
        try:
            fcntl.flock(stamp, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        is_new = os.fstat(stamp.fileno()).st_size == 0
        due = is_new or os.fstat(stamp.fileno()).st_mtime <= (now - EVERY).timestamp()
        yield due
        if due:
            stamp.truncate(0)
            stamp.write(now.isoformat())
            stamp.flush()
            os.utime(stamp.fileno(), (now.timestamp(), now.timestamp()))


def _maintain(store: Repository, project_id: UUID, *, now: datetime) -> None:
    try:
        # The references first: a run that begins between these two lines is not in the list.
        refs = store.private_refs()
        kept = _kept(project_id, refs, now=now)
        store.drop_refs([ref for ref in refs if ref not in kept])
        store.maintain()
    except WorkspaceError:  # its turn comes again
        logger.exception("the repository of project %s could not be looked after", project_id)


def _kept(project_id: UUID, refs: list[str], *, now: datetime) -> set[str]:
    """Return those that are still needed: of runs at work or lately, and checkpoints that a task goes on from."""
    recent = Run.objects.filter(project=project_id, finished_at__gte=now - KEPT_FOR).exclude(reason=_NOT_KEPT)
    active = Run.objects.filter(project=project_id, status__in=ACTIVE_RUN)
    runs = {str(pk) for pk in (recent | active).values_list("pk", flat=True)}
    unfinished = Task.objects.filter(project=project_id, status__in=OPEN_TASK | {TaskStatus.FAILED})
    resumed = set(unfinished.values_list("context__checkpoint", flat=True)) & set(refs)
    # What conflicts is merged by a later run, however long people take to decide.
    runs |= set(unfinished.values_list("context__conflict__run", flat=True)) - {None}
    return {ref for ref in refs if run_id_of(ref) in runs} | resumed | {base_ref(run_id_of(ref)) for ref in resumed}
