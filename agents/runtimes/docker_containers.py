"""An installation's containers: found by their sandbox's name, ended, removed, listed."""

from collections.abc import Iterator
from contextlib import suppress

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from agents.runtimes.contract import check_name
from agents.runtimes.docker_naming import Naming
from agents.runtimes.processes import About

__all__ = ["end", "find", "has_ended", "list_abouts", "remove"]

_ENDED = ("exited", "dead", "stopped")
"""States of a container whose process is gone; Podman's is stopped until it has cleaned up."""
_LOOKS = 10
"""Podman 4.3 refuses the whole list when one of the containers, anybody's, goes while it makes it."""


def find(client: DockerClient, naming: Naming, name: str) -> Container | None:
    """The sandbox's container, alive or not."""
    check_name(name)
    try:
        return client.containers.get(naming.resource(name))
    except NotFound:
        return None


def has_ended(container: Container) -> bool:
    """Whether its process is gone; one that has yet to start has not ended."""
    return container.status in _ENDED


def end(client: DockerClient, naming: Naming, name: str) -> None:
    """End what runs in the sandbox. Its container stays for whoever waits for it."""
    container = find(client, naming, name)
    if container is not None and container.status == "running":
        with suppress(APIError):  # it ended by itself
            container.kill()


def remove(client: DockerClient, naming: Naming, name: str) -> bool:
    """Whether the container is gone; asks the daemon to remove it if not."""
    container = find(client, naming, name)
    if container is None:
        return True
    with suppress(APIError):  # it is gone already, or being removed by someone else: look again
        container.remove(force=True, v=True)
    return find(client, naming, name) is None


def list_abouts(client: DockerClient, naming: Naming) -> Iterator[tuple[str, About]]:
    """The name of each sandbox that has a container, and what is known of it."""
    for container in _list(client, naming):
        yield naming.name_of(container), naming.about(container)


def _list(client: DockerClient, naming: Naming) -> list[Container]:
    for look in range(_LOOKS):
        try:
            # ignore_removed: one that ends between the daemon's list and our look at it is no error.
            return client.containers.list(all=True, filters={"label": naming.mark}, ignore_removed=True)
        except APIError as error:
            if look == _LOOKS - 1 or "no such container" not in str(error):
                raise
    raise AssertionError("the last look returns or raises")
