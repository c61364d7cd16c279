"""Which runtime this installation uses, and why."""

from pathlib import Path
from typing import Literal, NamedTuple

from agents.runtimes.contract import Runtime, RuntimeStatus
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.errors import RuntimeUnavailable
from agents.runtimes.local import LocalRuntime

__all__ = ["Choice", "Preference", "choose", "runtimes"]

Preference = Literal["auto", "docker", "local"]


class Choice(NamedTuple):
    """A runtime, one sentence for people that says why it is this one, and what it cannot hold here."""

    runtime: Runtime
    reason: str
    weaknesses: tuple[str, ...] = ()


def runtimes(
    *,
    state_dir: Path,
    image: str,
    namespace: str = "eklavya",
    subnets: str = "10.213.0.0/16",
    host_ports: tuple[int, ...] = (),
) -> tuple[DockerRuntime, LocalRuntime]:
    """All that an installation may ever have used, whether it works now or not. Parameters as of `choose`."""
    docker = DockerRuntime(
        state_dir=state_dir / "docker", image=image, namespace=namespace, subnets=subnets, host_ports=host_ports
    )
    return docker, LocalRuntime(state_dir=state_dir / "local")


def choose(
    preference: Preference,
    *,
    state_dir: Path,
    image: str,
    namespace: str = "eklavya",
    subnets: str = "10.213.0.0/16",
    allow_local: bool = True,
    host_ports: tuple[int, ...] = (),
) -> Choice:
    """The runtime that is asked for; with `auto` docker where it works, else local. Nothing is remembered.

    Records are kept under `state_dir`, a directory per runtime, so that a change of the preference mixes nothing up.
    `namespace` must differ between installations that share a daemon. Raises RuntimeUnavailable, saying what to do,
    when the one asked for does not work, or when only `local` would and `allow_local` is off. A runtime asked for by
    name is allowed. `host_ports` are those of the host that sandboxes may reach.
    """
    docker, local = runtimes(
        state_dir=state_dir, image=image, namespace=namespace, subnets=subnets, host_ports=host_ports
    )
    if preference == "local":
        return Choice(local, f"Asked for by name. {_require(local.check())}")
    status = docker.check()
    if status.available or preference == "docker":
        return Choice(docker, _require(status), status.weaknesses)
    if not allow_local:
        raise RuntimeUnavailable(f"{_sentence(status)} Work without isolation must be asked for by name: local.")
    return Choice(local, f"{_sentence(status)} {_require(local.check())}")


def _require(status: RuntimeStatus) -> str:
    if not status.available:
        raise RuntimeUnavailable(_sentence(status))
    return status.detail


def _sentence(status: RuntimeStatus) -> str:
    return f"{status.detail} To mend it: {status.fix}." if status.fix else status.detail
