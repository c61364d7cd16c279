"""Which runtime is chosen, and what is said about it."""

import os
import socket
from pathlib import Path

import pytest

from agents.runtimes.errors import RuntimeUnavailable
from agents.runtimes.registry import Preference, choose
from tests.agents.runtimes.conftest import IMAGE

ABSENT = "eklavya-absent:1"


@pytest.fixture
def no_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")


@pytest.mark.docker
@pytest.mark.parametrize("preference", ["auto", "docker"])
def test_docker_is_chosen_where_it_works(preference: Preference, tmp_path: Path) -> None:
    choice = choose(preference, state_dir=tmp_path, image=IMAGE)
    assert (choice.runtime.name, choice.runtime.isolated) == ("docker", True)
    assert f" runs agents in containers of {IMAGE}." in choice.reason


@pytest.mark.usefixtures("no_daemon")
def test_local_is_chosen_without_a_daemon(tmp_path: Path) -> None:
    choice = choose("auto", state_dir=tmp_path, image=IMAGE)
    assert (choice.runtime.name, choice.runtime.isolated) == ("local", False)
    assert "daemon" in choice.reason or "docker command" in choice.reason
    assert "without isolation" in choice.reason


@pytest.mark.docker
def test_local_is_chosen_without_the_image(tmp_path: Path) -> None:
    choice = choose("auto", state_dir=tmp_path, image=ABSENT)
    assert choice.runtime.name == "local"
    assert choice.reason.startswith(f"The image {ABSENT} is missing. To mend it: docker/build_image.sh.")


@pytest.mark.usefixtures("no_daemon")
def test_docker_by_name_is_refused_without_a_daemon(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="To mend it"):
        choose("docker", state_dir=tmp_path, image=IMAGE)


@pytest.mark.usefixtures("no_daemon")
def test_local_is_refused_where_it_must_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="asked for by name"):
        choose("auto", state_dir=tmp_path, image=IMAGE, allow_local=False)
    assert choose("local", state_dir=tmp_path, image=IMAGE, allow_local=False).runtime.name == "local"


def test_a_socket_of_others_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, closed = tmp_path / "docker", tmp_path / "closed"
    command.write_text("#!/bin/sh\n", encoding="utf-8")
    command.chmod(0o755)
    closed.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{closed}/docker.sock")
    me = os.geteuid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{closed}/docker.sock")
        server.listen()
        closed.chmod(0)
        if me == 0:
            os.seteuid(65534)
        try:
            choice = choose("auto", state_dir=tmp_path, image=IMAGE)
        finally:
            os.seteuid(me)
            closed.chmod(0o700)
    assert "Permission denied. To mend it: join the group" in choice.reason
    assert "start_daemon" not in choice.reason
