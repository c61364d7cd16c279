"""What daemons that speak Docker's API do differently: asked of the daemon once, answered here and in podman.py."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Protocol

from docker import DockerClient
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

__all__ = ["Dialect", "DockerDialect", "NetworkPlan"]

_BRIDGE_NAME = "com.docker.network.bridge.name"
_APART = "com.docker.network.bridge.enable_icc"


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """A project's network: internal, IPv4 only, its bridge named so that the host's packet filter knows it."""

    name: str
    bridge: str
    subnet: IPv4Network
    labels: dict[str, str]

    @property
    def gateway(self) -> str:
        """The host's address in it."""
        return str(self.subnet[1])


class Dialect(Protocol):
    """One kind of daemon. Implementations hold nothing: all that is remembered is what the daemon said."""

    @property
    def engine(self) -> str:
        """Its name, for people."""

    @property
    def api(self) -> str:
        """The version of the API to speak; asked once, because some daemons take a second to say it."""

    @property
    def removes_ended(self) -> bool:
        """Whether `docker run --rm` returns the program's exit code. Else the container stays until `kill`."""

    @property
    def keeps_apart(self) -> bool:
        """Whether containers of one network can be kept from each other. Else the host's packet filter has to."""

    @property
    def throttles(self) -> bool:
        """Whether it can limit how much of the disk a container moves in a second, unless its info says otherwise."""

    @property
    def takes_any_path(self) -> bool:
        """Whether directories may be mounted whose names hold a comma or a quote."""

    @property
    def ulimits(self) -> dict[str, int]:
        """Limits to name beside ours, because the daemon's own choice may be more than the host allows."""

    @property
    def mapped(self) -> str:
        """What to use so that users of containers are nobody on the host: for people, without a full stop."""

    def check(self, client: DockerClient) -> None:
        """Raise RuntimeUnavailable when the daemon, as it is set up, cannot run sandboxes."""

    def weaknesses(self, client: DockerClient) -> tuple[str, ...]:
        """What this daemon, as it is set up, does not hold though it could; as in `RuntimeStatus`."""

    def create_network(self, client: DockerClient, plan: NetworkPlan) -> None:
        """Make it. Raises docker's APIError, also when the subnet is taken: see `says_taken`."""

    def bridge_of(self, client: DockerClient, network: Network) -> str:
        """The name of its bridge; empty when the daemon chose one."""

    def says_taken(self, error: str) -> bool:
        """Whether the daemon refused a network because its subnet is in use."""

    def says_busy(self, error: str) -> bool:
        """Whether the daemon refused to remove a network because containers are in it."""


@dataclass(frozen=True)
class DockerDialect:
    """Docker's own."""

    api: str
    engine: str = "Docker"
    removes_ended: bool = True
    keeps_apart: bool = True
    throttles: bool = True
    takes_any_path: bool = True

    @property
    def ulimits(self) -> dict[str, int]:
        """None: a uid's containers are counted together."""
        return {}

    @property
    def mapped(self) -> str:
        """See the protocol."""
        return "a daemon started with userns-remap=default"

    def check(self, client: DockerClient) -> None:
        """Nothing beside what its info says: see `check_daemon`."""

    def weaknesses(self, client: DockerClient) -> tuple[str, ...]:
        """None: its default profile is strict, and said to be there by its info."""
        return ()

    def create_network(self, client: DockerClient, plan: NetworkPlan) -> None:
        """See the protocol."""
        pool = IPAMPool(subnet=str(plan.subnet), gateway=plan.gateway)
        client.networks.create(
            plan.name,
            driver="bridge",
            # No route out: neither the internet, nor the host's other networks, nor other projects.
            internal=True,
            ipam=IPAMConfig(pool_configs=[pool]),
            labels=plan.labels,
            # Runs of one project must not reach each other either: an author could change what its reviewer measures.
            options={_APART: "false", _BRIDGE_NAME: plan.bridge},
            enable_ipv6=False,
        )

    def bridge_of(self, client: DockerClient, network: Network) -> str:
        """See the protocol."""
        options: dict[str, Any] = network.attrs.get("Options") or {}
        return str(options.get(_BRIDGE_NAME, ""))

    def says_taken(self, error: str) -> bool:
        """See the protocol."""
        return "overlap" in error.lower()

    def says_busy(self, error: str) -> bool:
        """See the protocol."""
        return "active endpoints" in error
