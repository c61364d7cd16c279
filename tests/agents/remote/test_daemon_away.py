"""Workers, here and elsewhere, while their machine's Docker daemon is away: one of the test's own, which is killed."""

import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_django import Settings

from agents import sandboxes, tasks
from agents.actions.dispatch import dispatch
from agents.clock import house_now
from agents.models import Worker
from projects.models import Task
from tests.agents.remote.conftest import Far, web
from tests.agents.supervisor.line import wait_until
from tests.chaos import engine
from tests.chaos.engine import Engine
from tests.factories import TaskFactory

pytestmark = [pytest.mark.docker, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
IMAGE = "eklavya-empty:latest"
LONG_S = 90.0


@dataclass
class Daemon:
    """In a network namespace of its own, as a second one would write the first one's packet filter."""

    engine: Engine
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.engine.directory / "docker.log"

    def start(self) -> None:
        spec = self.engine.spec("docker")
        assert spec.before is not None
        spec.before()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(spec.command, env=dict(spec.environment), stdout=log, stderr=log)
        deadline = time.monotonic() + spec.deadline_s
        while not spec.ready():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):  # of one that was killed
            os.kill(int((self.engine.directory / "run/containerd/containerd.pid").read_text()), signal.SIGKILL)
        self.engine.remove()
        shutil.rmtree(self.engine.directory, ignore_errors=True)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    if why := engine.why_not():
        pytest.skip(why)
    place = Path(tempfile.mkdtemp(prefix="daemon"))  # containerd's sockets lie below, whose paths must be short
    made = Daemon(Engine(place, inside=lambda command: ["unshare", "--net", "--", *command]))
    monkeypatch.setenv("DOCKER_HOST", made.engine.address)
    try:
        made.start()
        nothing = io.BytesIO()
        tarfile.open(fileobj=nothing, mode="w").close()
        subprocess.run(["docker", "import", "-", IMAGE], input=nothing.getvalue(), check=True, capture_output=True)
        yield made
    finally:
        made.close()


@pytest.fixture
def here(daemon: Daemon, house: Path, settings: Settings) -> Iterator[Worker]:
    """This process as a worker whose agents are in containers."""
    settings.EKLAVYA_RUNTIME, settings.EKLAVYA_IMAGE = "docker", IMAGE
    sandboxes.choice.cache_clear()
    tasks.keeper.cache_clear()
    tasks.announce_worker()
    yield Worker.objects.get(name=settings.EKLAVYA_WORKER_NAME)
    tasks.retire_worker()
    tasks.keeper().close()
    tasks.keeper.cache_clear()
    sandboxes.choice.cache_clear()


def test_workers_take_nothing_while_their_daemon_is_away_and_go_on_by_themselves(
    daemon: Daemon, here: Worker, join: Callable[..., Far], port: int
) -> None:
    with web(port):
        far = join("far", "docker", "--image", IMAGE, DOCKER_HOST=os.environ["DOCKER_HOST"])
        both = Worker.objects.filter(pk__in=[here.pk, far.worker.pk])
        assert both.filter(status="online", reason="", runtime="docker").count() == 2

        daemon.kill()
        wait_until(lambda: both.filter(status="error", reason="runtime_silent").count() == 2, deadline_s=LONG_S)
        assert all("No Docker daemon answers" in one.load["runtime_problem"] for one in both)
        task = TaskFactory()
        assert dispatch(now=house_now()) == []

        daemon.start()
        wait_until(lambda: both.filter(status="online", reason="").count() == 2, deadline_s=LONG_S)
        assert len(dispatch(now=house_now())) == 1
        assert Task.objects.get(pk=task.pk).attempts == 0
        assert far.stop() == 0
