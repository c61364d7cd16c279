"""Sandboxes as containers: the default wherever a Docker daemon, or Podman's socket, answers."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import docker
import requests
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container as RunningContainer

from agents.runtimes import docker_network as networks
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
from agents.runtimes.docker_waiting import handle_of, knock, wait, wait_until_open
from agents.runtimes.environment import SDK_VARIABLES, bundled_cli, clean_env, require_directories
from agents.runtimes.errors import RuntimeProblem, RuntimeUnavailable, SandboxBusy, ServiceFailed
from agents.runtimes.firewall import Firewall
from agents.runtimes.ownership import give, sandbox_user
from agents.runtimes.processes import About, Launch, ProcessTable, poll, write_private
from agents.runtimes.watching import DiskWatch

__all__ = ["DockerRuntime"]

SERVICE_PORT = 8000
"""Every service listens here, on an address of its own."""
_DAEMON_TIMEOUT_S = 60
_REMOVAL_TIMEOUT_S = 20.0
_SERVICE_LOG_MB = 2
_LET_IN = "join the group that may open the socket (sudo usermod -aG docker $USER, then sign in anew), or run as root"


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
        self._namespace = namespace
        self._subnets = IPv4Network(subnets)
        self._cli = cli
        self._bridges = f"ek{hashlib.sha256(namespace.encode()).hexdigest()[:5]}"
        self._firewall = Firewall(self._bridges, host_ports, lock=state_dir / ".firewall.lock")
        self._watch = DiskWatch(self._end)
        self._shift: int | None = None
        self._podman: bool | None = None

    def check(self) -> RuntimeStatus:
        """Look for the docker command, a daemon, the image and the CLI, in this order."""
        if shutil.which("docker") is None:
            return RuntimeStatus(False, "The docker command is missing.", "apt-get install docker.io")
        try:
            with self._daemon() as client:
                return self._check_daemon(client)
        except RuntimeProblem as problem:
            denied = isinstance(problem.__cause__, PermissionError)
            return RuntimeStatus(False, str(problem), _LET_IN if denied else "docker/start_daemon.sh")

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
        with self._daemon() as client:
            return networks.gateway_of(self._network(client, project))

    def make_directory(self, directory: Path, *, disk_mb: int) -> None:
        """See the contract. A volume where one can be made; elsewhere what is written there is watched."""
        if why_no_volumes():
            directory.parent.mkdir(parents=True, exist_ok=True)
            volumes.check_room(directory.parent, disk_mb)
            directory.mkdir(mode=0o700)
        else:
            volumes.make(directory, size_mb=disk_mb)

    def remove_directory(self, directory: Path) -> None:
        """See the contract."""
        volumes.remove(directory)

    def launcher(self, spec: SandboxSpec, program: str | None = None) -> Path:
        """See the contract. The script becomes `docker run --rm --interactive`."""
        with self._daemon() as client:
            container = self._prepare(client, spec)
        about = About(project=spec.project, labels=dict(spec.labels), port=None)
        directory = self._table.open(spec.name, about)
        launch = Launch(
            argv=[*self._run_command(container), "--entrypoint", program or options.CLI, self._image],
            env=self._client_env(spec),
            cwd="/",
            record=str(directory),
            inherit=list(SDK_VARIABLES),
        )
        script = launch.write_script(spec.control)
        self._write_env_file(spec)
        return script

    def run(
        self, spec: SandboxSpec, command: str, *, timeout_s: float, max_output_bytes: int = 64_000
    ) -> CommandResult:
        """See the contract."""
        begin = time.monotonic()
        # Only the tail is wanted. A character may take six bytes in the daemon's JSON.
        log_mb = 1 + 6 * max_output_bytes // 2**20
        with self._daemon() as client:
            container = self._create(client, spec, command, log_mb=log_mb)
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
        with self._daemon() as client:
            container = self._create(client, spec, command, log_mb=_SERVICE_LOG_MB, port=SERVICE_PORT)
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
        with self._daemon() as client:
            container = self._find(client, name)
            if container is None or container.status != "running":
                return None
            return handle_of(container, name)

    def is_alive(self, name: str) -> bool:
        """See the contract. A client that has yet to create its container counts."""
        with self._daemon() as client:
            container = self._find(client, name)
            if container is not None and container.status not in ("exited", "dead"):
                return True
        return self._table.is_alive(name)

    def logs(self, name: str, *, tail: int = 200) -> str:
        """See the contract."""
        with self._daemon() as client:
            container = self._find(client, name)
            if container is None or self._label("port") not in container.labels:
                return ""  # a launched CLI's output went to its caller only
            text: str = container.logs(tail=tail).decode(errors="replace")
            return text

    def kill(self, name: str) -> None:
        """See the contract."""
        check_name(name)
        # First the client: it may be about to create the container.
        self._table.kill(name)
        self._watch.drop(name)
        with self._daemon() as client:
            if not poll(lambda: self._remove(client, name), timeout_s=_REMOVAL_TIMEOUT_S):
                raise RuntimeProblem(f"the container of the sandbox {name} cannot be removed")

    def list_sandboxes(self, labels: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """See the contract."""
        wanted = dict(labels or {}).items()
        abouts = self._abouts().items()
        return tuple(sorted(name for name, about in abouts if wanted <= about["labels"].items()))

    def list_projects(self) -> tuple[str, ...]:
        """See the contract."""
        projects = {about["project"] for about in self._abouts().values()}
        with self._daemon() as client:
            for network in client.networks.list(filters={"label": self._mark()}):
                projects.add(network.attrs["Labels"][self._label("project")])
        return tuple(sorted(projects))

    def remove_project(self, project: str) -> None:
        """See the contract."""
        check_name(project)
        for name, about in self._abouts().items():
            if about["project"] == project:
                self.kill(name)
        network = self._resource(project)
        with self._daemon() as client:
            if not poll(lambda: networks.remove_network(client, network), timeout_s=_REMOVAL_TIMEOUT_S):
                raise RuntimeProblem(f"the network {network} is still in use")

    def remove_rules(self) -> None:
        """Take the rules out of the host's packet filter, when an installation goes. Nothing of it may run."""
        if not firewall.why_not():
            self._firewall.remove()

    # The daemon

    @contextmanager
    def _daemon(self) -> Iterator[DockerClient]:
        """A client for one use: sessions are not safe between threads or after a fork."""
        try:
            knock()
            client = docker.from_env(timeout=_DAEMON_TIMEOUT_S)
            try:
                yield client
            finally:
                client.close()
        except ImageNotFound as error:
            raise RuntimeUnavailable(f"The image {self._image} is missing: docker/build_image.sh") from error
        except APIError as error:
            raise RuntimeProblem(f"Docker refused: {error.explanation or error}") from error
        except (DockerException, requests.RequestException) as error:
            raise RuntimeUnavailable(f"No Docker daemon answers: {error}.") from error

    def _check_daemon(self, client: DockerClient) -> RuntimeStatus:
        info: dict[str, Any] = client.info()
        try:
            self._shift = shift_of(info)
            check_daemon(info)
        except RuntimeUnavailable as problem:
            return RuntimeStatus(False, str(problem), "Point DOCKER_HOST at a daemon that runs as root, with seccomp.")
        try:
            client.images.get(self._image)
        except ImageNotFound:
            return RuntimeStatus(False, f"The image {self._image} is missing.", "docker/build_image.sh")
        try:
            self._find_cli()
        except RuntimeUnavailable as problem:
            return RuntimeStatus(False, str(problem), "pip install --requirement requirements.txt")
        detail = f"Docker {info.get('ServerVersion', '')} runs agents in containers of {self._image}."
        return RuntimeStatus(True, detail, weaknesses=find_weaknesses(info, is_podman=self._is_podman(client)))

    def _network(self, client: DockerClient, project: str) -> networks.Network:
        # First: no container is in a network that the host is open to.
        self._firewall.ensure()
        return networks.ensure_network(
            client,
            self._resource(project),
            bridges=self._bridges,
            labels={self._label("namespace"): self._namespace, self._label("project"): project},
            subnets=self._subnets,
            lock=self._table.state_dir / ".networks.lock",
        )

    def _find(self, client: DockerClient, name: str) -> RunningContainer | None:
        check_name(name)
        try:
            return client.containers.get(self._resource(name))
        except NotFound:
            return None

    def _end(self, name: str) -> None:
        """End what runs in the sandbox. Its container stays for whoever waits for it."""
        with self._daemon() as client:
            container = self._find(client, name)
            if container is not None and container.status == "running":
                with suppress(APIError):  # it ended by itself
                    container.kill()

    def _remove(self, client: DockerClient, name: str) -> bool:
        """Whether the container is gone; asks the daemon to remove it if not."""
        container = self._find(client, name)
        if container is None:
            return True
        with suppress(APIError):  # it is gone already, or being removed by someone else: look again
            container.remove(force=True, v=True)
        return self._find(client, name) is None

    def _abouts(self) -> dict[str, About]:
        """What is known of each sandbox: of those that have only a client, and of containers."""
        known = {name: about for name in self._table.names() if (about := self._table.about(name))}
        with self._daemon() as client:
            # ignore_removed: one that ends between the daemon's list and our look at it is no error.
            for container in client.containers.list(all=True, filters={"label": self._mark()}, ignore_removed=True):
                known[container.labels[self._label("name")]] = self._about(container)
        return known

    def _about(self, container: RunningContainer) -> About:
        prefix = self._label("of-caller.")
        return About(
            project=container.labels[self._label("project")],
            labels={
                key.removeprefix(prefix): value for key, value in container.labels.items() if key.startswith(prefix)
            },
            port=None,
        )

    # Names

    def _resource(self, name: str) -> str:
        """The name of a container or network."""
        return f"{self._namespace}-{name}"

    def _label(self, key: str) -> str:
        return f"eklavya.{key}"

    def _mark(self) -> str:
        return f"{self._label('namespace')}={self._namespace}"

    def _find_cli(self) -> Path:
        cli = self._cli or bundled_cli()
        if not os.access(cli, os.X_OK):
            raise RuntimeUnavailable(f"The Claude Code CLI at {cli} cannot be executed.")
        return cli

    # Making containers

    def _prepare(self, client: DockerClient, spec: SandboxSpec) -> options.Container:
        """Free the name of what ended, give the directories away, and make the network."""
        require_directories(spec)
        if self.is_alive(spec.name):
            raise SandboxBusy(f"the sandbox {spec.name} is alive")
        self.kill(spec.name)
        uid, gid = user = sandbox_user()
        shift = self._user_shift(client)
        for directory in (spec.workspace, spec.home):
            give(directory, uid=uid + shift, gid=gid + shift)
        if not volumes.holds(spec.workspace):
            self._watch.add(spec.name, (spec.workspace, spec.home), limit_mb=spec.limits.disk_mb)
        return options.Container(
            spec=spec,
            name=self._resource(spec.name),
            network=str(self._network(client, spec.project).name),
            user=user,
            cli=self._find_cli(),
            labels=self._labels(spec),
            is_podman=self._is_podman(client),
        )

    def _user_shift(self, client: DockerClient) -> int:
        """How much higher the uids of containers are on the host: the daemon's userns-remap, asked for once."""
        if self._shift is None:
            self._shift = shift_of(client.info())
        return self._shift

    def _is_podman(self, client: DockerClient) -> bool:
        """Whether Podman answers; asked once."""
        if self._podman is None:
            self._podman = networks.is_podman(client)
        return self._podman

    def _labels(self, spec: SandboxSpec) -> dict[str, str]:
        own = {"namespace": self._namespace, "name": spec.name, "project": spec.project}
        return {
            **{self._label(key): value for key, value in own.items()},
            **{self._label(f"of-caller.{key}"): value for key, value in spec.labels.items()},
        }

    def _create(
        self,
        client: DockerClient,
        spec: SandboxSpec,
        command: str,
        *,
        log_mb: int,
        port: int | None = None,
    ) -> RunningContainer:
        arguments = options.to_create(self._prepare(client, spec).options())
        environment = _inside_env(spec)
        if port is not None:
            # On all addresses: a container has only the one that the host reaches it by, and its own
            # loopback.
            environment |= {"HOST": "0.0.0.0", "PORT": str(port)}
            arguments["labels"] |= {self._label("port"): str(port)}
        return client.containers.create(
            self._image,
            entrypoint=["/bin/sh", "-c", command],
            command=[],
            environment=environment,
            log_config=options.log_config(log_mb),
            **arguments,
        )

    def _run_command(self, container: options.Container) -> list[str]:
        """`docker run` with all its flags; the image and its arguments follow."""
        return [
            shutil.which("docker") or "docker",
            "run",
            "--interactive",
            # Gone with its process; `kill` removes it where the client was killed first.
            "--rm",
            # Never ask a registry: the image is here or it is an error.
            "--pull=never",
            # The output goes to the caller and nowhere else: it holds the whole conversation.
            "--log-driver=none",
            # A file: arguments can be read by every user of the host.
            f"--env-file={_env_file(container.spec)}",
            *(flag for name in SDK_VARIABLES for flag in ("--env", name)),
            *options.to_argv(container.options()),
        ]

    def _client_env(self, spec: SandboxSpec) -> dict[str, str]:
        """The environment of the docker command itself."""
        config = spec.control / "docker-config"
        config.mkdir(parents=True, exist_ok=True)
        passed_on = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            # Empty: the admin's own may name another context, or put proxies into every container.
            "DOCKER_CONFIG": str(config),
            "EKLAVYA_SANDBOX": self._table.marker(spec.name),
            **{key: os.environ[key] for key in passed_on if key in os.environ},
        }

    def _write_env_file(self, spec: SandboxSpec) -> None:
        lines = "".join(f"{key}={value}\n" for key, value in _inside_env(spec).items())
        write_private(_env_file(spec), lines.encode())


def _env_file(spec: SandboxSpec) -> Path:
    return spec.control / "launcher.env"


def _inside_env(spec: SandboxSpec) -> dict[str, str]:
    return clean_env(
        spec,
        path=options.PATH,
        home=options.HOME,
        tmp=options.TMP,
        workspace=options.WORKSPACE,
        marker=spec.name,
    )
