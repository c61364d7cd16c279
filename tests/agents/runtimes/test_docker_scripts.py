"""The scripts that bring up Docker and the image: what they say when something is missing, and when nothing is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "docker"
both = pytest.mark.parametrize("script", ["build_image.sh", "start_daemon.sh"])


def run(script: str, *arguments: str, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [SCRIPTS / script, *arguments],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory for PATH with what the scripts need, apart from Docker."""
    for tool in ("sh", "dirname", "cat", "cut", "sha256sum", "id", "tr", "timeout", "awk"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    return tmp_path


@both
def test_a_missing_command_is_one_line(script: str, tools: Path) -> None:
    code, output = run(script, PATH=str(tools))
    assert code == 1
    assert output.split(": ", 1)[1] == "the docker command is missing: install docker.io\n"


@both
def test_a_daemon_that_does_not_answer_is_one_line(script: str, tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command")
    code, output = run(script, DOCKER_HOST=f"unix://{tmp_path}/absent.sock")
    assert (code, output.count("\n")) == (1, 1)
    assert "answer" in output


@pytest.mark.docker
def test_a_daemon_that_answers_is_left_alone() -> None:
    assert run("start_daemon.sh") == (0, "docker: a daemon already answers\n")


def test_a_base_that_cannot_be_made_is_one_line(tools: Path, tmp_path: Path) -> None:
    # A docker that answers, but has no base and can pull none.
    docker = tools / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = version ]\n')
    docker.chmod(0o700)
    code, output = run("build_image.sh", "test:1", PATH=str(tools), EKLAVYA_VAR=str(tmp_path))
    assert code == 1
    assert output.splitlines()[-1].endswith("debootstrap, which would replace it, is missing: install debootstrap")
