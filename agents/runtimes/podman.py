"""Podman in Docker's place (`podman system service`): what its Docker-compatible API cannot say, its own can.

Checked with Podman 4.3 of Debian 12; docs/operations.md says how to set it up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError
from docker.models.networks import Network
from requests import HTTPError, Response

from agents.runtimes.docker_dialect import NetworkPlan
from agents.runtimes.errors import RuntimeUnavailable
from agents.runtimes.podman_seccomp import allows_namespaces

__all__ = ["PodmanDialect"]

_PROCESSES = 16_384


@dataclass(frozen=True)
class PodmanDialect:
    """See `Dialect`."""

    api: str
    engine: str = "Podman"
    removes_ended: bool = False
    """Before 4.6 a client that waits for the removal is told 0 (containers/podman#18889)."""
    keeps_apart: bool = False
    takes_any_path: bool = False
    """It writes what it was told into a line of CSV, and reads that again."""

    @property
    def throttles(self) -> bool:
        """Its info does not say so, as Docker's does; its cgroups are this machine's."""
        controllers = Path("/sys/fs/cgroup/cgroup.controllers")
        if controllers.exists():
            return "io" in controllers.read_text().split()
        return Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device").exists()

    @property
    def ulimits(self) -> dict[str, int]:
        """Unless told, it asks for a million processes, which a host without CAP_SYS_RESOURCE refuses."""
        return {"nproc": _PROCESSES}

    @property
    def mapped(self) -> str:
        """See the protocol. Its own mappings are chosen for each container, and do not fit directories of the host."""
        return "Docker, started with userns-remap=default"

    def check(self, client: DockerClient) -> None:
        """See the protocol. With CNI the host has no address in an internal network: no sandbox reaches the gateway."""
        if _host_info(client).get("networkBackend") == "cni":
            raise RuntimeUnavailable(
                "Podman makes networks by CNI, in which sandboxes do not reach the agent gateway.",
                fix='apt-get install netavark, and set network_backend = "netavark" under [network] in containers.conf',
            )

    def weaknesses(self, client: DockerClient) -> tuple[str, ...]:
        """See the protocol. The profile is a file of this machine's, as the daemon is this machine's."""
        path = _host_info(client)["security"].get("seccompProfilePath", "")
        try:
            if not allows_namespaces(json.loads(Path(path).read_bytes())):
                return ()
        except (OSError, ValueError):  # not for this user to read, or none that is known here
            return (f"Podman's filter of system calls cannot be read ({path}): see docs/operations.md, Podman.",)
        return (
            f"Podman's filter of system calls ({path}) lets sandboxes make user namespaces, by which holes of the "
            "kernel are reached: give it the one that docs/operations.md, Podman, says how to make.",
        )

    def create_network(self, client: DockerClient, plan: NetworkPlan) -> None:
        """See the protocol. Only its own API names bridges, and makes a network without a name server on the host."""
        asked = {
            "name": plan.name,
            "driver": "bridge",
            "network_interface": plan.bridge,
            "internal": True,
            "ipv6_enabled": False,
            # It would listen at the host's address, and answer names of the internet.
            "dns_enabled": False,
            "labels": plan.labels,
            "subnets": [{"subnet": str(plan.subnet), "gateway": plan.gateway}],
        }
        _checked(client.api.post(_url(client, "networks/create"), json=asked, timeout=client.api.timeout))

    def bridge_of(self, client: DockerClient, network: Network) -> str:
        """See the protocol."""
        answer = _checked(client.api.get(_url(client, f"networks/{network.name}/json"), timeout=client.api.timeout))
        return str(answer.json().get("network_interface", ""))

    def says_taken(self, error: str) -> bool:
        """See the protocol."""
        return "already used on the host" in error

    def says_busy(self, error: str) -> bool:
        """See the protocol."""
        return "being used" in error


def _host_info(client: DockerClient) -> dict[str, Any]:
    answer = _checked(client.api.get(_url(client, "info"), timeout=client.api.timeout))
    return dict(answer.json()["host"])


def _url(client: DockerClient, path: str) -> str:
    """An address of Podman's own API, at the same socket."""
    return f"{client.api.base_url}/v4.0.0/libpod/{path}"


def _checked(answer: Response) -> Response:
    """Raise what docker-py raises, so that callers see one kind of error."""
    try:
        answer.raise_for_status()
    except HTTPError as error:
        raise APIError(str(error), response=answer, explanation=answer.json().get("message", "")) from error
    return answer
