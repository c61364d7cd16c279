"""A run's sandbox on a remote worker, as the supervisor sees it: a runtime like the others.

What is started here is a relay (`agents.remote.relay`) in place of the CLI. The files are in the run's directory on
this machine before it starts, and are fetched back when the sandbox is killed: see `agents.remote.files`.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from agents.models import Run
from agents.remote import files
from agents.roles import limits_of_run
from agents.runtimes.contract import (
    CommandResult,
    Mount,
    Runtime,
    RuntimeName,
    RuntimeStatus,
    SandboxSpec,
    ServiceHandle,
)
from agents.runtimes.docker_options import HOME as DOCKER_HOME
from agents.runtimes.docker_options import WORKSPACE as DOCKER_WORKSPACE
from agents.runtimes.errors import RuntimeProblem
from agents.runtimes.local import LocalRuntime
from agents.runtimes.processes import write_private
from agents.sandboxes import runtime
from agents.worker.places import DOORS, HOME, PROGRAM, WORKSPACE

_MINUTE_S = 60.0
ONLY_RUNS = "A remote worker runs agents, and nothing else."


class RemoteRuntime:
    """The runtime of one run that a remote worker has."""

    complete_first = True

    def __init__(self, run: Run, *, state_dir: Path) -> None:
        """`run` has its worker loaded. Records of relays are kept under `state_dir`."""
        assert run.worker is not None
        self._run = run
        self._worker = run.worker
        self._relays = LocalRuntime(state_dir=state_dir)
        self.name: RuntimeName = "docker" if run.worker.runtime == "docker" else "local"
        self.isolated = bool(run.worker.info.get("isolated"))

    def check(self) -> RuntimeStatus:
        """The worker chose it, and beats."""
        return RuntimeStatus(True, f"Agents run on the remote worker {self._worker.name}.")

    def workspace_path(self, spec: SandboxSpec) -> str:
        """A container's own path is the same everywhere; any other is the worker's to say."""
        return DOCKER_WORKSPACE if self.name == "docker" else WORKSPACE

    def home_path(self, spec: SandboxSpec) -> str:
        """As the workspace."""
        return DOCKER_HOME if self.name == "docker" else HOME

    def mount_path(self, mount: Mount) -> str:
        """Where nothing is mounted: a file of this repository, which the worker has too."""
        if self.name == "docker":
            return mount.inside
        return f"{PROGRAM}/{mount.host.relative_to(settings.BASE_DIR)}"

    def cli_path(self, spec: SandboxSpec) -> str:
        """The worker's own."""
        return "claude"

    def host_address(self, project: str) -> str:
        """A word for the address at which the worker leads to the gateway."""
        return DOORS

    def make_directory(self, directory: Path, *, disk_mb: int) -> None:
        """Make the directory of the run's files here; the worker holds its own to `disk_mb`."""
        self._relays.make_directory(directory, disk_mb=disk_mb)

    def remove_directory(self, directory: Path) -> None:
        """See the contract."""
        self._relays.remove_directory(directory)

    def launcher(self, spec: SandboxSpec, program: str | None = None) -> Path:
        """See the contract: the script runs the relay, which has the worker run the CLI.

        Raises FilesTooLarge when the run's files are more than come back: nothing is spent on it then.
        """
        if program is not None:
            raise RuntimeProblem(ONLY_RUNS)
        spec.control.chmod(0o700)
        config = spec.control / "relay.json"
        write_private(config, json.dumps(self._relay_settings(spec)).encode())
        # -P: the working directory is the agent's, and nothing is imported from there.
        command = [sys.executable, "-P", "-m", "agents.remote.relay", str(config)]
        script = spec.control / "relay"
        here = shlex.quote(str(settings.BASE_DIR))
        text = f'#!/bin/sh\nPYTHONPATH={here} exec {shlex.join(command)} "$@"\n'
        write_private(script, text.encode(), mode=0o700)
        files.give(self._run.pk)
        return self._relays.launcher(replace(spec, env={}, mounts=(), read_only_workspace=False), str(script))

    def _relay_settings(self, spec: SandboxSpec) -> dict[str, Any]:
        return {
            "redis_url": settings.REDIS_URL,
            "worker_id": str(self._worker.pk),
            "run_id": str(self._run.pk),
            "assignment": {
                "description": self._run.task.title,
                "assigned_tool": "claude_code",
                "context": {
                    "name": spec.name,
                    "project": spec.project,
                    "env": dict(spec.env),
                    "limits": asdict(spec.limits),
                    "labels": dict(spec.labels),
                    "read_only_workspace": spec.read_only_workspace,
                    "mounts": [self._mount(mount, spec.workspace.parent) for mount in spec.mounts],
                    "wall_seconds": limits_of_run(self._run).minutes * _MINUTE_S,
                },
            },
        }

    def _mount(self, mount: Mount, root: Path) -> dict[str, Any]:
        """Say where a mount is on the worker: below the run's directory, or in this repository."""
        about = {"inside": mount.inside, "read_only": mount.read_only}
        if mount.host.is_relative_to(root):
            return {"of": "run", "path": str(mount.host.relative_to(root)), **about}
        return {"of": "program", "path": str(mount.host.relative_to(settings.BASE_DIR)), **about}

    def kill(self, name: str) -> None:
        """End the relay, have the worker end the sandbox and give the files back.

        Raises WorkerAway when the worker does not, and FilesTooLarge when they are more than is taken: what the run
        made since it began is not here then.
        """
        self._relays.kill(name)
        files.fetch_last(self._run)

    def adopt(self, spec: SandboxSpec) -> None:
        """See the contract. The files went to the worker when the program was started: none may come later."""
        raise RuntimeProblem("a remote worker has its files before its program starts")

    def run(
        self, spec: SandboxSpec, command: str, *, timeout_s: float, max_output_bytes: int = 64_000
    ) -> CommandResult:
        """Not there."""
        raise RuntimeProblem(ONLY_RUNS)

    def start(self, spec: SandboxSpec, command: str, *, wait_s: float = 20.0) -> ServiceHandle:
        """Not there."""
        raise RuntimeProblem(ONLY_RUNS)

    def service(self, name: str) -> ServiceHandle | None:
        """There are none."""
        return None

    def is_alive(self, name: str) -> bool:
        """Whether the relay is."""
        return self._relays.is_alive(name)

    def logs(self, name: str, *, tail: int = 200) -> str:
        """There are none."""
        return ""

    def list_sandboxes(self, labels: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """The relays of all runs."""
        return self._relays.list_sandboxes(labels)

    def list_projects(self) -> tuple[str, ...]:
        """Those of all relays."""
        return self._relays.list_projects()

    def remove_project(self, project: str) -> None:
        """End its relays."""
        self._relays.remove_project(project)


def runtime_of(run_id: UUID) -> Runtime:
    """Return the runtime that a run has here: this machine's, or that of the remote worker which was chosen for it."""
    run = Run.objects.select_related("worker", "task__project", "project", "agent__member").filter(pk=run_id).first()
    if run is None or run.worker is None or not run.worker.is_remote:
        return runtime()
    return RemoteRuntime(run, state_dir=Path(settings.EKLAVYA_VAR) / "sandboxes" / "remote")
