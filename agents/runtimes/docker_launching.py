"""The command that a launcher becomes: `docker run`, with all its flags, its environment and the sandbox's."""

import os
import shutil
from pathlib import Path

from agents.runtimes import docker_options as options
from agents.runtimes.contract import SandboxSpec
from agents.runtimes.environment import SDK_VARIABLES, clean_env
from agents.runtimes.processes import write_private

__all__ = ["client_env", "inside_env", "run_command", "write_env_file"]


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
    lines = "".join(f"{key}={value}\n" for key, value in inside_env(spec).items())
    write_private(_env_file(spec), lines.encode())


def inside_env(spec: SandboxSpec) -> dict[str, str]:
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
