"""Whether a daemon answers: asked beside, never waited for."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.runtimes.answering import Answering
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.docker_dialect import DockerDialect
from agents.runtimes.local import LocalRuntime
from tests.agents.supervisor.line import wait_until


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where a daemon would listen: whoever connects waits."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "docker.sock"))
        yield made
        for thread in threading.enumerate():
            if thread.name == "runtime-answers":  # refused in the middle, docker-py would leave its socket open
                thread.join(20)


def docker(tmp_path: Path) -> DockerRuntime:
    """As it is once it was checked, which every one is before it runs anything."""
    made = DockerRuntime(state_dir=tmp_path / "state", image="none")
    made._daemon._dialect = DockerDialect("1.41")
    return made


def test_processes_need_no_daemon(tmp_path: Path) -> None:
    assert Answering(every_s=0).problem(LocalRuntime(state_dir=tmp_path)) == ""


def test_a_daemon_that_is_not_there_is_a_problem_that_says_where(daemon: socket.socket, tmp_path: Path) -> None:
    asked, runtime = Answering(every_s=0), docker(tmp_path)

    wait_until(lambda: asked.problem(runtime) != "")

    assert f"No Docker daemon answers at unix://{tmp_path}/docker.sock" in asked.problem(runtime)


def test_a_daemon_that_hangs_is_given_up(daemon: socket.socket, tmp_path: Path) -> None:
    daemon.listen()
    asked, runtime = Answering(every_s=0, timeout_s=0.1), docker(tmp_path)

    wait_until(lambda: "answers" in asked.problem(runtime))


def test_one_that_cannot_be_given_up_is_not_waited_for(daemon: socket.socket, tmp_path: Path) -> None:
    """Connections that nobody takes fill the queue: from then on to connect alone lasts until somebody does."""
    daemon.listen(0)
    waiting = []
    for _ in range(2):
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(str(tmp_path / "docker.sock"))
    asked, runtime = Answering(every_s=0, timeout_s=0.1), docker(tmp_path)
    try:
        wait_until(lambda: "has not answered" in asked.problem(runtime))
    finally:
        daemon.close()  # refuses whoever waits
        for one in waiting:
            one.close()
    wait_until(lambda: "No Docker daemon answers" in asked.problem(runtime))
