"""The internal network of a project: its containers reach the host's gateway address, and nothing else."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.networks import Network

from agents.runtimes.docker_dialect import Dialect, NetworkPlan
from agents.runtimes.docker_naming import Naming
from agents.runtimes.errors import RuntimeProblem, RuntimeUnavailable

__all__ = [
    "SUBNET_PREFIX",
    "ProjectNetworks",
    "gateway_of",
    "subnet_candidates",
]

SUBNET_PREFIX = 27
"""29 sandboxes of a project at a time; a /16 holds 2048 projects. Docker's own choice, a /16 each, holds 31."""
_MAX_BRIDGE = 15
"""Characters of an interface's name in Linux."""


@dataclass(frozen=True, kw_only=True)
class ProjectNetworks:
    """The networks of one installation."""

    naming: Naming
    bridges: str
    """How the names of their bridges begin, by which the host's packet filter knows them."""
    subnets: IPv4Network
    lock: Path
    """By which processes of this host take turns: Docker lets two networks have one name. Beside it lies a file for
    each network: held by all who bring a sandbox into it, or alone by who removes it. Its time is when the last came.
    """

    def ensure(self, client: DockerClient, project: str, *, dialect: Dialect) -> Network:
        """The project's network, made if it is missing.

        Raises RuntimeUnavailable when every subnet of the range is taken, RuntimeProblem when a network of that name is
        not an internal one.
        """
        name = self.naming.resource(project)
        bridge = self.bridges + hashlib.sha256(name.encode()).hexdigest()[: _MAX_BRIDGE - len(self.bridges)]
        with _locked(self.lock):
            found = _find_network(client, name)
            if found is not None and dialect.bridge_of(client, found) != bridge:
                # Of an earlier version, whose bridges no rule matches. Nothing of it runs, or this fails and says so.
                found.remove()
                found = None
            if found is None:
                labels = self.naming.network_labels(project)
                found = _create(client, name, dialect=dialect, bridge=bridge, labels=labels, subnets=self.subnets)
        if not found.attrs["Internal"]:
            raise RuntimeProblem(f"the network {name} exists and is not internal: remove it")
        return found

    @contextmanager
    def in_use(self, project: str) -> Iterator[None]:
        """Keep the network, if it is there, from being removed as idle: from before `ensure` on, until a sandbox can be
        found in it."""
        with _held(self._mark(project), fcntl.LOCK_SH) as file:
            assert file is not None, "only who does not wait goes without"
            os.utime(file)
            yield

    def remove_idle(
        self, client: DockerClient, project: str, *, dialect: Dialect, idle_s: float, has_sandbox: Callable[[], bool]
    ) -> bool:
        """Try to remove a network that has no sandbox and that nobody asked for in `idle_s`; False where it stays."""
        mark = self._mark(project)
        with _held(mark, fcntl.LOCK_EX | fcntl.LOCK_NB) as file:
            # Asked with the lock: whoever makes a sandbox now waits, and makes the network anew.
            if file is None or time.time() - os.fstat(file).st_mtime < idle_s or has_sandbox():
                return False
            is_gone = self.remove(client, project, dialect=dialect)
            if is_gone:
                mark.unlink(missing_ok=True)
        return is_gone

    def _mark(self, project: str) -> Path:
        return self.lock.with_name(f".network-{project}")

    def remove(self, client: DockerClient, project: str, *, dialect: Dialect) -> bool:
        """Try to remove the project's network; False while a container that is being removed is still in it."""
        network = _find_network(client, self.naming.resource(project))
        if network is None:
            return True
        try:
            network.remove()
        except NotFound:
            return True
        except APIError as error:
            if dialect.says_busy(str(error)):
                return False
            raise
        return True

    def list_projects(self, client: DockerClient) -> set[str]:
        """Projects that have one."""
        found = client.networks.list(filters={"label": self.naming.mark})
        return {self.naming.project_of(network) for network in found}


def _find_network(client: DockerClient, name: str) -> Network | None:
    """The network of exactly that name."""
    # Docker's filter matches parts of names.
    for network in client.networks.list(names=[name]):
        if network.name == name:
            return network
    return None


def gateway_of(network: Network) -> str:
    """The address of the host in the network, as `ProjectNetworks.ensure` gave it."""
    gateway: str = network.attrs["IPAM"]["Config"][0]["Gateway"]
    return gateway


def subnet_candidates(name: str, subnets: IPv4Network) -> Iterator[IPv4Network]:
    """Every subnet of the range once, beginning at a place that depends on the name.

    Installations that share a range but not a lock then rarely begin with the same one.
    """
    count = 2 ** (SUBNET_PREFIX - subnets.prefixlen)
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    size = 2 ** (32 - SUBNET_PREFIX)
    for step in range(count):
        offset = (first + step) % count * size
        yield IPv4Network((int(subnets.network_address) + offset, SUBNET_PREFIX))


def _create(
    client: DockerClient, name: str, *, dialect: Dialect, bridge: str, labels: dict[str, str], subnets: IPv4Network
) -> Network:
    used = _used_subnets(client)
    for subnet in subnet_candidates(name, subnets):
        if any(subnet.overlaps(other) for other in used):
            continue
        try:
            dialect.create_network(client, NetworkPlan(name=name, bridge=bridge, subnet=subnet, labels=labels))
        except APIError as error:
            # Someone else took it since, or the host has a route to it.
            if not dialect.says_taken(str(error)):
                raise
        else:
            return client.networks.get(name)
    raise RuntimeUnavailable(f"No subnet of {subnets} is free: remove networks of projects that have ended.")


def _used_subnets(client: DockerClient) -> list[IPv4Network]:
    used = []
    for network in client.networks.list():
        for pool in (network.attrs.get("IPAM") or {}).get("Config") or ():
            if "." in pool.get("Subnet", ""):
                used.append(IPv4Network(pool["Subnet"], strict=False))
    return used


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _held(path: Path, how: int) -> Iterator[int | None]:
    """Hold a file that its holder may unlink, and give its descriptor; None where `how` is not to wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError:
                yield None
                return
            if os.fstat(file.fileno()).st_nlink:  # else it went while we waited: others hold another one by now
                yield file.fileno()
                return
