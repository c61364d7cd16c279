"""Waiting for a daemon's answers: whether it is there, and what a container does."""

from __future__ import annotations

import grp
import os
import socket
import stat
import time

import requests
from docker.models.containers import Container as RunningContainer

from agents.runtimes.contract import ServiceHandle
from agents.runtimes.errors import RuntimeUnavailable
from agents.runtimes.processes import poll

__all__ = ["handle_of", "knock", "wait", "wait_until_open"]

DEFAULT_HOST = "unix:///var/run/docker.sock"


def knock() -> None:
    """Raise RuntimeUnavailable unless something listens; docker-py would leave its socket open, and say less."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if not host.startswith("unix://"):
        return
    path = host.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except PermissionError as error:
            message = f"No Docker daemon answers at {host}: {error.strerror}."
            raise RuntimeUnavailable(message, fix=_let_in(path)) from error
        except OSError as error:
            message = f"No Docker daemon answers at {host}: {error.strerror or error}."
            raise RuntimeUnavailable(message, fix="docker/start_daemon.sh") from error


def _let_in(path: str) -> str:
    """How this user may come to open the socket: by its group, where that has anything to say."""
    try:
        status = os.stat(path)
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):  # it lies where this user may not look
        return "join the group that may open the socket, or run as root"
    if status.st_gid == 0 or not status.st_mode & stat.S_IWGRP:
        return f"run as root: {path} is root's alone"
    return f"join the group {group} (sudo usermod -aG {group} $USER, then sign in anew), or run as root"


def wait(container: RunningContainer, timeout_s: float) -> int | None:
    """The exit code, or None when the time is over first."""
    deadline = time.monotonic() + timeout_s
    try:
        code: int = container.wait(timeout=timeout_s)["StatusCode"]
    except (requests.ReadTimeout, requests.ConnectionError):
        # docker-py reports both a slow answer and a broken connection by either.
        if time.monotonic() < deadline:
            raise
        return None
    return code


def wait_until_open(container: RunningContainer, name: str, wait_s: float) -> ServiceHandle | None:
    """Wait until the service accepts a connection; None when it ended."""

    def settled() -> bool:
        container.reload()
        return container.status != "running" or _accepts(handle_of(container, name))

    poll(settled, timeout_s=wait_s)
    container.reload()
    return handle_of(container, name) if container.status == "running" else None


def handle_of(container: RunningContainer, name: str) -> ServiceHandle | None:
    """Where a running container is reached; None when it is no service, or has no address any more."""
    port = container.labels.get("eklavya.port")
    for network in container.attrs["NetworkSettings"]["Networks"].values():
        if port and network["IPAddress"]:
            return ServiceHandle(name, network["IPAddress"], int(port))
    return None


def _accepts(handle: ServiceHandle | None) -> bool:
    if handle is None:
        return False
    try:
        socket.create_connection((handle.host, handle.port), timeout=1).close()
    except OSError:
        return False
    return True
