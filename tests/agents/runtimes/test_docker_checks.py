"""What is made of what a daemon says of itself."""

import grp
import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from agents.runtimes import docker_checks, docker_waiting, firewall, volumes
from agents.runtimes.docker_checks import check_daemon, find_weaknesses, shift_of
from agents.runtimes.docker_daemon import dialect_of
from agents.runtimes.errors import RuntimeUnavailable
from tests.agents.runtimes.conftest import make_runtime

PLAIN: dict[str, Any] = {"SecurityOptions": ["name=seccomp,profile=default"], "DockerRootDir": "/var/lib/docker"}
REMAPPED = {
    "SecurityOptions": ["name=seccomp,profile=default", "name=userns"],
    "DockerRootDir": "/var/lib/docker/100000.100000",
}
DOCKER = dialect_of({"Components": [{"Name": "Engine"}]}, api="1.41")
PODMAN = dialect_of({"Components": [{"Name": "Podman Engine"}]}, api="1.41")


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What is remembered of this machine for good must not be what a test made of it."""
    yield
    nothing_is_remembered()


def nothing_is_remembered() -> None:
    for remembered in (
        volumes.why_not,
        docker_checks._is_namespace_of_daemon,
        docker_checks._may_daemon_raise_floor,
    ):
        remembered.cache_clear()


@contextmanager
def podman_that_says(info: dict[str, Any], place: Path) -> Iterator[DockerClient]:
    """A client of a socket that answers whatever it is asked with this."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(info).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Not on the tests' output."""

    with socketserver.UnixStreamServer(str(place / "podman.sock"), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = DockerClient(base_url=f"unix://{place}/podman.sock", version="1.41")
        try:
            yield client
        finally:
            client.close()
            server.shutdown()
            thread.join()


def test_a_plain_daemon_maps_nobody() -> None:
    assert shift_of(PLAIN) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to whom the daemon maps to")
def test_a_daemon_that_maps_users_says_by_how_much() -> None:
    assert shift_of(REMAPPED) == 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"SecurityOptions": ["name=seccomp", "name=rootless"]},
        {"SecurityOptions": ["name=seccomp", "name=userns"], "DockerRootDir": "/var/lib/docker"},
        {"SecurityOptions": ["name=seccomp", "name=userns"], "DockerRootDir": "/var/lib/docker/1000.2000"},
    ],
)
def test_a_daemon_that_maps_otherwise_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RuntimeUnavailable) as refused:
        shift_of(PLAIN | change)
    assert refused.value.fix


def test_a_daemon_that_maps_users_is_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(RuntimeUnavailable, match="only root can give") as refused:
        shift_of(REMAPPED)
    assert "without userns-remap" in refused.value.fix
    (unmapped,) = [sentence for sentence in find_weaknesses(PLAIN, DOCKER) if "Uid" in sentence]
    assert unmapped.startswith("Uid 4711 inside is this user")


def test_whoever_may_not_open_the_socket_is_told_how(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    path.touch()
    if os.getuid() == 0:
        os.chown(path, -1, 1)
    path.chmod(0o660)
    group = grp.getgrgid(path.stat().st_gid).gr_name
    assert f"usermod -aG {group} $USER" in docker_waiting._let_in(str(path))
    # Podman's
    path.chmod(0o600)
    assert docker_waiting._let_in(str(path)).startswith("run as root")


@pytest.mark.parametrize("change", [{"SecurityOptions": []}, {"PidsLimit": False}, {"MemoryLimit": False}])
def test_a_daemon_that_cannot_hold_a_sandbox_is_refused(change: dict[str, Any]) -> None:
    check_daemon(PLAIN)
    with pytest.raises(RuntimeUnavailable):
        check_daemon(PLAIN | change)


def test_what_is_missing_is_said() -> None:
    assert any("userns-remap" in sentence for sentence in find_weaknesses(PLAIN, DOCKER))
    assert not any("userns-remap" in sentence for sentence in find_weaknesses(REMAPPED, DOCKER))
    assert any("swap" in sentence for sentence in find_weaknesses(PLAIN | {"SwapLimit": False}, DOCKER))


def test_what_a_daemon_cannot_hold_of_the_disk_and_of_the_order_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_checks, "why_no_volumes", lambda: "")
    slow = PLAIN | {"Warnings": ["WARNING: No blkio throttle.write_bps_device support"]}
    assert any("not limited (the kernel" in sentence for sentence in find_weaknesses(slow, DOCKER))
    assert not any("not limited" in sentence for sentence in find_weaknesses(PLAIN, DOCKER))
    for throttles in (True, False):  # Podman's info says nothing of it
        monkeypatch.setattr(type(PODMAN), "throttles", throttles)
        assert any("not limited (the kernel" in sentence for sentence in find_weaknesses(PLAIN, PODMAN)) != throttles
    for holds in (True, False):
        monkeypatch.setattr(docker_checks, "_keeps_oom_order", lambda holds=holds: holds)
        assert any("CAP_SYS_RESOURCE" in sentence for sentence in find_weaknesses(PLAIN, DOCKER)) != holds


@pytest.mark.skipif(bool(volumes.why_not()), reason=f"no volumes: {volumes.why_not()}")
def test_a_daemon_that_was_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what sandboxes write would not be held for as long as the worker lives."""
    runtime = make_runtime("docker", tmp_path / "state")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    nothing_is_remembered()

    assert "does not see the mounts" in docker_checks.why_no_volumes()
    with pytest.raises(RuntimeUnavailable, match="No Docker daemon answers"):
        runtime.make_directory(tmp_path / "run", disk_mb=24)
    assert not (tmp_path / "run").exists()

    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "docker.sock"))
        daemon.listen()
        assert docker_checks.why_no_volumes() == ""
        assert docker_checks._keeps_oom_order() == docker_checks._may_daemon_raise_floor()


def test_podman_needs_the_host_to_keep_sandboxes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "why_not_apart", lambda: "no filter")
    assert any("each other (no filter)" in sentence for sentence in find_weaknesses(PLAIN, PODMAN))
    assert not any("each other" in sentence for sentence in find_weaknesses(PLAIN, DOCKER))


@pytest.mark.parametrize(("backend", "works"), [("cni", False), ("netavark", True)])
def test_podman_needs_networks_with_an_address_of_the_host(backend: str, works: bool, tmp_path: Path) -> None:
    with podman_that_says({"host": {"networkBackend": backend}}, tmp_path) as client:
        if works:
            PODMAN.check(client)
            return
        with pytest.raises(RuntimeUnavailable, match="CNI") as refused:
            PODMAN.check(client)
    assert "netavark" in refused.value.fix
