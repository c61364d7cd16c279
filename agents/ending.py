"""Ending all that runs in sandboxes on this machine, whoever started it: for the shutdown of the whole.

No database is asked, which may be gone by then: the rows say later what was lost, as after a power cut. Nobody starts
sandboxes meanwhile.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from django.conf import settings

from agents.runtimes.contract import Networked, Runtime
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import every_runtime

logger = logging.getLogger(__name__)
# What comes to life while it is ended, as a container that the daemon was about to make, is found the second time.
_LOOKS = 3
_AT_ONCE = 8


def end_all() -> list[str]:
    """End every sandbox of this installation, remove its networks and take its rules out of the host's packet filter;
    return what is left, with the way to end it.

    Sentences for people, without a full stop. Empty when nothing is left. Never raises.
    """
    return [sentence for runtime in every_runtime() if _was_used(runtime) for sentence in _end(runtime)]


def _was_used(runtime: Runtime) -> bool:
    # Where Docker was never used nobody has to say that it does not answer.
    return (Path(settings.EKLAVYA_VAR) / "sandboxes" / runtime.name).exists()


def _end(runtime: Runtime) -> Iterator[str]:
    """Try some times; say what is left then."""
    try:
        for _ in range(_LOOKS):
            projects = runtime.list_projects()
            if not projects:
                if isinstance(runtime, Networked):
                    runtime.remove_rules()
                return
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(partial(_remove, runtime), projects))
        left = runtime.list_sandboxes()
    except RuntimeProblem as problem:
        yield f"what runs in {runtime.name} sandboxes cannot be seen ({problem}); {_way_out(runtime, ())}"
        return
    if left:
        yield f"the sandboxes {', '.join(left)} still run; {_way_out(runtime, left)}"


def _remove(runtime: Runtime, project: str) -> None:
    try:
        runtime.remove_project(project)
    except RuntimeProblem as problem:  # the others can be ended all the same
        logger.warning("%s cannot be ended: %s", project, problem)


def _way_out(runtime: Runtime, names: tuple[str, ...]) -> str:
    if not isinstance(runtime, DockerRuntime):
        return "start Eklavya again, which ends them, or kill the processes with EKLAVYA_SANDBOX in their environment"
    return f"start Eklavya again, which ends them, or run: {runtime.ending_command(names)}"
