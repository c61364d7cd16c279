"""How a sandbox's container is made: by the daemon's API, or by `docker run`, which is what a launcher becomes."""

import os
import shutil
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container as RunningContainer

from agents.runtimes import docker_options as options
from agents.runtimes.contract import SandboxSpec
from agents.runtimes.docker_naming import label
from agents.runtimes.environment import SDK_VARIABLES, clean_env
from agents.runtimes.processes import write_private

__all__ = ["client_env", "create", "run_command", "write_env_file"]


def create(
    client: DockerClient,
    image: str,
    container: options.Container,
    command: str,
    *,
    log_mb: int,
    port: int | None = None,
) -> RunningContainer:
    """Have the daemon make the container of a shell command, whose log is kept up to twice `log_mb`.

    With `port` it is a service, which finds there where to listen.
    """
    arguments = options.to_create(container.options())
    environment = _inside_env(container.spec)
    if port is not None:
        # On all addresses: a container has only the one that the host reaches it by, and its own loopback.
        environment |= {"HOST": "0.0.0.0", "PORT": str(port)}
        arguments["labels"] |= {label("port"): str(port)}
    return client.containers.create(
        image,
        entrypoint=["/bin/sh", "-c", command],
        command=[],
        environment=environment,
        log_config=options.log_config(log_mb),
        **arguments,
    )


def run_command(container: options.Container, *, removes_ended: bool) -> list[str]:
    """`docker run` with all its flags; the image and its arguments follow."""
    return [
        shutil.which("docker") or "docker",
        "run",
        "--interactive",
        # Gone with its process, where the exit code survives that; `kill` removes it where the client was killed first.
        *(["--rm"] if removes_ended else []),
        # Never ask a registry: the image is here or it is an error.
        "--pull=never",
        # The output goes to the caller and nowhere else: it holds the whole conversation.
        "--log-driver=none",
        # A file: arguments can be read by every user of the host.
        f"--env-file={_env_file(container.spec)}",
        *(flag for name in SDK_VARIABLES for flag in ("--env", name)),
        *options.to_argv(container.options()),
    ]


def client_env(spec: SandboxSpec, *, marker: str) -> dict[str, str]:
    """The environment of the docker command itself."""
    config = spec.control / "docker-config"
    config.mkdir(parents=True, exist_ok=True)
    passed_on = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        # Empty: the admin's own may name another context, or put proxies into every container.
        "DOCKER_CONFIG": str(config),
        "EKLAVYA_SANDBOX": marker,
        **{key: os.environ[key] for key in passed_on if key in os.environ},
    }


def write_env_file(spec: SandboxSpec) -> None:
    """Write what `run_command` names."""
    lines = "".join(f"{key}={value}\n" for key, value in _inside_env(spec).items())
    write_private(_env_file(spec), lines.encode())


def _inside_env(spec: SandboxSpec) -> dict[str, str]:
    """The environment of the sandbox's processes."""
    return clean_env(
        spec,
        path=options.PATH,
        home=options.HOME,
        tmp=options.TMP,
        workspace=options.WORKSPACE,
        marker=spec.name,
    )


def _env_file(spec: SandboxSpec) -> Path:
    return spec.control / "launcher.env"
