"""The way to the daemon: a client for each use, its errors in our words, and what kind of daemon it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound

from agents.runtimes.docker_checks import shift_of, why_no_disk_rate
from agents.runtimes.docker_dialect import Dialect, DockerDialect
from agents.runtimes.docker_waiting import knock
from agents.runtimes.errors import RuntimeProblem, RuntimeUnavailable
from agents.runtimes.podman import PodmanDialect

__all__ = ["Daemon", "dialect_of"]

_TIMEOUT_S = 60.0


class Daemon:
    """The one that DOCKER_HOST names. What it is is asked at the first use, and remembered."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._dialect: Dialect | None = None
        self._shift: int | None = None
        self._limits_disk_rate: bool | None = None

    @contextmanager
    def client(self, *, timeout_s: float = _TIMEOUT_S) -> Iterator[DockerClient]:
        """A client for one use: sessions are not safe between threads or after a fork."""
        try:
            knock()
            # With a version docker-py does not ask for one.
            version = self._dialect.api if self._dialect else None
            # Of seconds, its types know whole ones only.
            client = docker.from_env(timeout=timeout_s, version=version)  # type: ignore[arg-type]
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

    def dialect(self, client: DockerClient) -> Dialect:
        """What kind of daemon it is."""
        if self._dialect is None:
            self._dialect = dialect_of(client.version(), api=client.api.api_version)
        return self._dialect

    def user_shift(self, client: DockerClient) -> int:
        """How much higher the uids of containers are on the host: the daemon's userns-remap."""
        if self._shift is None:
            self._shift = shift_of(client.info())
        return self._shift

    def limits_disk_rate(self, client: DockerClient) -> bool:
        """Whether it limits what a container reads and writes in a second."""
        if self._limits_disk_rate is None:
            self._limits_disk_rate = not why_no_disk_rate(client.info(), self.dialect(client))
        return self._limits_disk_rate


def dialect_of(version: dict[str, Any], *, api: str) -> Dialect:
    """Tell the kind of daemon by what it answers to `docker version`."""
    parts = version.get("Components") or ()
    if any("podman" in part.get("Name", "").lower() for part in parts):
        return PodmanDialect(api)
    return DockerDialect(api)
