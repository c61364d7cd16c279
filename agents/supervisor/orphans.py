"""Clearing up after supervisors that died: what on this machine belongs to no active run."""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings

from agents import delivery
from agents.models import Run
from agents.runtimes.contract import Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import run_directory
from agents.states import ACTIVE_RUN
from agents.supervisor import teardown

logger = logging.getLogger(__name__)

# Longer than a supervisor that ends in good order needs to remove its own directories.
KEPT_FOR = timedelta(minutes=5)
# Of a run's CLI, of the checks of its change, and its directory.
_OF_RUN = re.compile(r"(?:run-|check-)?([0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})(?:-.*)?")
_OF_DELIVERY = re.compile(r"delivery-([0-9a-f]{32})-.*")


def clear(runtime: Runtime, *, now: datetime, expected: Callable[[], Collection[UUID]] = tuple) -> None:
    """Kill the sandboxes of runs that have ended, and remove their old directories once their work is confirmed.

    `expected` names runs that are still to be made. Asked after the sandboxes are looked at and before the rows are.
    """
    # Looked at before the rows: what is seen here was held by then.
    sandboxes = {name: owner for name in runtime.list_sandboxes() if (owner := _owner(name))}
    directories = {path: owner for path in _directories(now) if (owner := _owner(path.name))}
    owners = {*sandboxes.values(), *directories.values()}
    waiting = set(expected())
    active = waiting | set(Run.objects.filter(pk__in=owners, status__in=ACTIVE_RUN).values_list("pk", flat=True))
    for name in [name for name, owner in sandboxes.items() if owner not in active]:
        logger.warning("sandbox %s belongs to no run any more", name)
        try:
            runtime.kill(name)
        except RuntimeProblem:  # the next sweep tries again
            logger.exception("sandbox %s could not be removed", name)
    for path, owner in [(path, owner) for path, owner in directories.items() if owner not in active]:
        try:
            if path == run_directory(owner):
                teardown.finish(owner, runtime, now=now)
            else:  # what was checked out to be looked at
                runtime.remove_directory(path)
        except RuntimeProblem:
            logger.exception("%s could not be removed", path)
    _clear_deliveries(runtime, now=now)
    teardown.clear_stamps()


def _clear_deliveries(runtime: Runtime, *, now: datetime) -> None:
    """Clear away what the last look at a project left when its process was killed: nobody looks at that project now,
    and it is too long ago for somebody who looks and lost the connection that says so."""
    old = set(_directories(now))
    sandboxes = _of_deliveries(runtime.list_sandboxes())
    directories = _of_deliveries(path.name for path in (Path(settings.EKLAVYA_VAR) / "checks").glob("*"))
    for project_id in sandboxes.keys() | directories.keys():
        mine = [Path(settings.EKLAVYA_VAR) / "checks" / name for name in directories.get(project_id, ())]
        with delivery.alone(project_id) as is_alone:
            if not is_alone or not old.issuperset(mine):
                continue
            try:
                for name in sandboxes.get(project_id, ()):
                    logger.warning("sandbox %s belongs to no check of a delivery any more", name)
                    runtime.kill(name)
                for path in mine:
                    runtime.remove_directory(path)
            except RuntimeProblem:  # the next sweep tries again
                logger.exception("what a check of project %s left could not be removed", project_id)


def _of_deliveries(names: Iterable[str]) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = {}
    for name in names:
        if match := _OF_DELIVERY.fullmatch(name):
            found.setdefault(UUID(match[1]), []).append(name)
    return found


def _owner(name: str) -> UUID | None:
    match = _OF_RUN.fullmatch(name)
    return UUID(match[1]) if match else None


def _directories(now: datetime) -> Iterator[Path]:
    oldest = (now - KEPT_FOR).timestamp()
    for part in ("runs", "checks"):
        for path in (Path(settings.EKLAVYA_VAR) / part).glob("*"):
            try:
                if path.stat().st_mtime < oldest:
                    yield path
            except FileNotFoundError:  # its supervisor came first
                continue
