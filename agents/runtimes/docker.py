"""Sandboxes as containers: the default wherever a Docker daemon, or Podman's socket, answers."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Collection, Mapping
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import DockerException, ImageNotFound
from docker.models.networks import Network

from agents.runtimes import docker_containers as containers
from agents.runtimes import docker_options as options
from agents.runtimes import firewall, volumes
from agents.runtimes.contract import (
    CommandResult,
    Mount,
    RuntimeName,
    RuntimeStatus,
    SandboxSpec,
    ServiceHandle,
    check_name,
)
from agents.runtimes.docker_checks import check_daemon, find_weaknesses, shift_of, why_no_volumes
from agents.runtimes.docker_daemon import Daemon
from agents.runtimes.docker_making import client_env, create, run_command, write_env_file
from agents.runtimes.docker_naming import Naming, label
from agents.runtimes.docker_network import ProjectNetworks, gateway_of
from agents.runtimes.docker_waiting import handle_of, knock, wait, wait_until_open
from agents.runtimes.environment import SDK_VARIABLES, find_cli, require_directories
from agents.runtimes.errors import RuntimeProblem, RuntimeUnavailable, SandboxBusy, ServiceFailed
from agents.runtimes.firewall import Firewall
from agents.runtimes.ownership import give, sandbox_user
from agents.runtimes.processes import About, Launch, ProcessTable, poll
from agents.runtimes.watching import DiskWatch

__all__ = ["DockerRuntime"]

SERVICE_PORT = 8000
"""Every service listens here, on an address of its own."""
_REMOVAL_TIMEOUT_S = 20.0
_SERVICE_LOG_MB = 2


class DockerRuntime:
    """Runs each sandbox as a container on its project's internal network; docker_options.py says how
    confined.

    The daemon must be the machine's own and run as root: directories are bind-mounted, and the host must be reachable
    at the bridge's address. DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH are honoured.

    Of the host, containers reach the ports named and no other (firewall.py); they write no more than their volume holds
    (volumes.py). Both need root on the host; `check` says what is missing. docs/security-model.md says what every flag
    is for, and what none of them holds.
    """

    name: RuntimeName = "docker"
    isolated = True
    complete_first = False

    def __init__(
        self,
        *,
        state_dir: Path,
        image: str,
        namespace: str = "eklavya",
        subnets: str = "10.213.0.0/16",
        cli: Path | None = None,
        host_ports: tuple[int, ...] = (),
    ) -> None:
        """Use containers of `image` and networks out of `subnets`, all named after `namespace`.

        The namespace must differ between installations that share a daemon: each sweeps up what bears its
        own. Records of `docker run` clients are kept under `state_dir`; `cli` defaults to
        claude-agent-sdk's own. Containers reach `host_ports` at the host's address in their network.
        """
        check_name(namespace)
        self._table = ProcessTable(state_dir)
        self._image = image
        self._daemon = Daemon(image)
        self._naming = Naming(namespace)
        self._cli = cli
        bridges = f"ek{hashlib.sha256(namespace.encode()).hexdigest()[:5]}"
        self._networks = ProjectNetworks(
            naming=self._naming, bridges=bridges, subnets=IPv4Network(subnets), lock=state_dir / ".networks.lock"
        )
        self._firewall = Firewall(bridges, host_ports, lock=state_dir / ".firewall.lock")
        self._watch = DiskWatch(self._end)

    def check(self) -> RuntimeStatus:
        """Look for the docker command, a daemon, the image and the CLI, in this order."""
        if shutil.which("docker") is None:
            return RuntimeStatus(False, "The docker command is missing.", "apt-get install docker.io")
        try:
            with self._daemon.client() as client:
                return self._check_daemon(client)
        except RuntimeProblem as problem:
            fix = problem.fix if isinstance(problem, RuntimeUnavailable) else ""
            return RuntimeStatus(False, str(problem), fix or "docker/start_daemon.sh")

    def ask(self, *, timeout_s: float) -> None:
        """See `Served`."""
        with self._daemon.client(timeout_s=timeout_s) as client:
            client.ping()

    def workspace_path(self, spec: SandboxSpec) -> str:
        """The same for all."""
        return options.WORKSPACE

    def home_path(self, spec: SandboxSpec) -> str:
        """The same for all."""
        return options.HOME

    def mount_path(self, mount: Mount) -> str:
        """As asked."""
        return mount.inside

    def cli_path(self, spec: SandboxSpec) -> str:
        """The same for all."""
        return options.CLI

    def host_address(self, project: str) -> str:
        """The gateway of the project's network."""
        with self._networks.in_use(project), self._daemon.client() as client:
            return gateway_of(self._network(client, project))

    def make_directory(self, directory: Path, *, disk_mb: int) -> None:
        """See the contract. A volume where one can be made; elsewhere what is written there is watched."""
        knock()  # of a daemon that is away nobody knows whether it will see a volume
        if why_no_volumes():
            directory.parent.mkdir(parents=True, exist_ok=True)
            volumes.check_room(directory.parent, disk_mb)
            directory.mkdir(mode=0o700)
        else:
            volumes.make(directory, size_mb=disk_mb)

    def promised_mb(self, root: Path, *, disk: Path | None = None) -> int | None:
        """See `Promising`. None where what is written is watched."""
        return None if why_no_volumes() else volumes.promised_mb(root, disk=disk)

    def remove_directory(self, directory: Path) -> None:
        """See the contract."""
        volumes.remove(directory)

    def launcher(self, spec: SandboxSpec, program: str | None = None) -> Path:
        """See the contract. The script becomes `docker run --rm --interactive`."""
        with self._networks.in_use(spec.project):
            with self._daemon.client() as client:
                container = self._prepare(client, spec)
                removes_ended = self._daemon.dialect(client).removes_ended
            about = About(project=spec.project, labels=dict(spec.labels), port=None)
            directory = self._table.open(spec.name, about)
        launch = Launch(
            argv=[
                *run_command(container, removes_ended=removes_ended),
                "--entrypoint",
                program or options.CLI,
                self._image,
            ],
            env=client_env(spec, marker=self._table.marker(spec.name)),
            cwd="/",
            record=str(directory),
            inherit=list(SDK_VARIABLES),
        )
        script = launch.write_script(spec.control)
        write_env_file(spec)
        return script

    def adopt(self, spec: SandboxSpec) -> None:
        """See the contract."""
        with self._daemon.client() as client:
            self._give(client, spec)

    def run(
        self, spec: SandboxSpec, command: str, *, timeout_s: float, max_output_bytes: int = 64_000
    ) -> CommandResult:
        """See the contract."""
        begin = time.monotonic()
        # Only the tail is wanted. A character may take six bytes in the daemon's JSON.
        log_mb = 1 + 6 * max_output_bytes // 2**20
        with self._daemon.client() as client:
            with self._networks.in_use(spec.project):
                container = create(client, self._image, self._prepare(client, spec), command, log_mb=log_mb)
            try:
                container.start()
                exit_code = wait(container, timeout_s)
                output = container.logs()[-max_output_bytes:]
            finally:
                self.kill(spec.name)
        return CommandResult(
            exit_code=exit_code,
            output=output.decode(errors="replace"),
            duration_s=time.monotonic() - begin,
            timed_out=exit_code is None,
        )

    def start(self, spec: SandboxSpec, command: str, *, wait_s: float = 20.0) -> ServiceHandle:
        """See the contract. The port is the same for all; the address is the container's own."""
        with self._daemon.client() as client:
            with self._networks.in_use(spec.project):
                prepared = self._prepare(client, spec)
                container = create(client, self._image, prepared, command, log_mb=_SERVICE_LOG_MB, port=SERVICE_PORT)
            try:
                container.start()
            except DockerException:
                self.kill(spec.name)
                raise
            handle = wait_until_open(container, spec.name, wait_s)
            if handle is not None:
                return handle
            failed = ServiceFailed(
                f"the service {spec.name} ended at once",
                exit_code=container.attrs["State"]["ExitCode"],
                log=container.logs(tail=200).decode(errors="replace"),
            )
        self.kill(spec.name)
        raise failed

    def service(self, name: str) -> ServiceHandle | None:
        """See the contract."""
        with self._daemon.client() as client:
            container = containers.find(client, self._naming, name)
            if container is None or container.status != "running":
                return None
            return handle_of(container, name)

    def is_alive(self, name: str) -> bool:
        """See the contract. A client that has yet to create its container counts."""
        with self._daemon.client() as client:
            container = containers.find(client, self._naming, name)
            if container is not None and not containers.has_ended(container):
                return True
        return self._table.is_alive(name)

    def logs(self, name: str, *, tail: int = 200) -> str:
        """See the contract."""
        with self._daemon.client() as client:
            container = containers.find(client, self._naming, name)
            if container is None or label("port") not in container.labels:
                return ""  # a launched CLI's output went to its caller only
            text: str = container.logs(tail=tail).decode(errors="replace")
            return text

    def kill(self, name: str) -> None:
        """See the contract."""
        check_name(name)
        # First the client: it may be about to create the container.
        self._table.kill(name)
        self._watch.drop(name)
        with self._daemon.client() as client:
            if not poll(lambda: containers.remove(client, self._naming, name), timeout_s=_REMOVAL_TIMEOUT_S):
                raise RuntimeProblem(f"the container of the sandbox {name} cannot be removed")

    def list_sandboxes(self, labels: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """See the contract."""
        wanted = dict(labels or {}).items()
        abouts = self._abouts().items()
        return tuple(sorted(name for name, about in abouts if wanted <= about["labels"].items()))

    def list_projects(self) -> tuple[str, ...]:
        """See the contract."""
        projects = {about["project"] for about in self._abouts().values()}
        with self._daemon.client() as client:
            projects |= self._networks.list_projects(client)
        return tuple(sorted(projects))

    def remove_project(self, project: str) -> None:
        """See the contract."""
        check_name(project)
        for name, about in self._abouts().items():
            if about["project"] == project:
                self.kill(name)
        with self._daemon.client() as client:
            dialect = self._daemon.dialect(client)
            if not poll(lambda: self._networks.remove(client, project, dialect=dialect), timeout_s=_REMOVAL_TIMEOUT_S):
                raise RuntimeProblem(f"the network {self._naming.resource(project)} is still in use")

    def remove_idle_networks(self, *, idle_s: float, busy: Collection[str] = ()) -> tuple[str, ...]:
        """See the contract (`Networked`)."""
        removed = []
        used = {about["project"] for about in self._abouts().values()} | set(busy)
        with self._daemon.client() as client:
            dialect = self._daemon.dialect(client)
            for project in sorted(self._networks.list_projects(client) - used):
                has_sandbox = partial(self._has_sandbox, project)
                if self._networks.remove_idle(client, project, dialect=dialect, idle_s=idle_s, has_sandbox=has_sandbox):
                    removed.append(project)
        return tuple(removed)

    def _has_sandbox(self, project: str) -> bool:
        return any(about["project"] == project for about in self._abouts().values())

    def ending_command(self, names: Collection[str]) -> str:
        """What a person types to end these sandboxes, or to look for those of this installation where none is named."""
        if not names:
            return f"docker ps --all --filter label={self._naming.mark}"
        return " ".join(["docker rm --force", *(self._naming.resource(name) for name in names)])

    def remove_rules(self) -> None:
        """Take the rules out of the host's packet filter, when an installation goes. Nothing of it may run."""
        if not firewall.why_not():
            self._firewall.remove()

    # The daemon

    def _check_daemon(self, client: DockerClient) -> RuntimeStatus:
        info: dict[str, Any] = client.info()
        shift_of(info)
        check_daemon(info)
        dialect = self._daemon.dialect(client)
        dialect.check(client)
        try:
            client.images.get(self._image)
        except ImageNotFound:
            return RuntimeStatus(False, f"The image {self._image} is missing.", "docker/build_image.sh")
        find_cli(self._cli)
        detail = f"{dialect.engine} {info.get('ServerVersion', '')} runs agents in containers of {self._image}."
        return RuntimeStatus(True, detail, weaknesses=(*find_weaknesses(info, dialect), *dialect.weaknesses(client)))

    def _network(self, client: DockerClient, project: str) -> Network:
        # First: no container is in a network that the host is open to.
        dialect = self._daemon.dialect(client)
        self._firewall.ensure(apart=not dialect.keeps_apart)
        return self._networks.ensure(client, project, dialect=dialect)

    def _end(self, name: str) -> None:
        with self._daemon.client() as client:
            containers.end(client, self._naming, name)

    def _abouts(self) -> dict[str, About]:
        """What is known of each sandbox: of those that have only a client, and of containers."""
        known = {name: about for name in self._table.names() if (about := self._table.about(name))}
        with self._daemon.client() as client:
            known |= dict(containers.list_abouts(client, self._naming))
        return known

    def _give(self, client: DockerClient, spec: SandboxSpec) -> None:
        uid, gid = sandbox_user()
        shift = self._daemon.user_shift(client)
        for directory in (spec.workspace, spec.home):
            give(directory, uid=uid + shift, gid=gid + shift)

    def _prepare(self, client: DockerClient, spec: SandboxSpec) -> options.Container:
        """Free the name of what ended, give the directories away, and make the network."""
        require_directories(spec)
        dialect = self._daemon.dialect(client)
        if not dialect.takes_any_path:
            options.check_paths(spec)
        # Most names are new, and to look through all processes of the machine takes long.
        if self._table.is_used(spec.name) or containers.find(client, self._naming, spec.name) is not None:
            if self.is_alive(spec.name):
                raise SandboxBusy(f"the sandbox {spec.name} is alive")
            self.kill(spec.name)
        self._give(client, spec)
        if not volumes.holds(spec.workspace):
            self._watch.add(spec.name, (spec.workspace, spec.home), limit_mb=spec.limits.disk_mb)
        return options.Container(
            spec=spec,
            name=self._naming.resource(spec.name),
            network=str(self._network(client, spec.project).name),
            user=sandbox_user(),
            cli=find_cli(self._cli),
            labels=self._naming.container_labels(spec),
            ulimits=dialect.ulimits,
            device=volumes.device_of(spec.workspace) if self._daemon.limits_disk_rate(client) else "",
        )
