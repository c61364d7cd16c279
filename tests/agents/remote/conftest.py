"""A web server with its WebSocket, the gateway and the model, and remote workers as processes that know neither."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.conf import settings as configured
from django.core.cache import cache
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from accounts.roles import AccountRole
from accounts.scopes import Scope
from agents import sandboxes
from agents.models import Worker
from agents.runtimes.local import LocalRuntime
from agents.states import WorkerStatus
from agents.supervisor.keeper import LeaseKeeper
from eklavya.env import BASE_DIR
from learning.actions import load_prompts
from tests.accounts.making import key_of, person
from tests.agents.gateway.harness import fill_prices
from tests.agents.remote.joined import Machine
from tests.agents.supervisor.conftest import new_keeper
from tests.agents.supervisor.line import Servers, start_servers, wait_until
from tests.eklavya.test_worker_processes import celery
from tests.factories import TESTER, WorkerFactory
from tests.ports import free_ports
from tests.serving import QuickServer

STOP_S = 60


@dataclass
class Far:
    """The program of a remote worker, in a directory of its own and without a word about our servers."""

    process: subprocess.Popen[bytes]
    var: Path
    key_id: int
    key: str

    @property
    def worker(self) -> Worker:
        found: Worker = Worker.objects.get(key=self.key_id)
        return found

    @property
    def said(self) -> str:
        return (self.var.parent / f"{self.var.name}.log").read_text()

    def stop(self) -> int:
        """End it in good order."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


@contextmanager
def web(port: int) -> Iterator[None]:
    """The web server, in a thread: its database and its settings are the test's."""
    from eklavya.asgi import application  # noqa: PLC0415  # sets Django up

    server = QuickServer(uvicorn.Config(application, host="127.0.0.1", port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, name="web")
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _nothing_was_recorded() -> None:
    cache.clear()


@pytest.fixture
def machine() -> Machine:
    made = Machine(Scope.WORKERS_JOIN)
    assert made.join().status_code == 201
    return made


@pytest.fixture(scope="session")
def far_servers(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The gateway and the model."""
    with start_servers(tmp_path_factory.mktemp("var")) as started:
        yield started


@pytest.fixture
def house(far_servers: Servers, transactional_db: None, settings: Settings) -> Iterator[Path]:
    """The server: settings, prompts and prices, and no worker of its own."""
    settings.EKLAVYA_VAR = far_servers.var
    settings.EKLAVYA_GATEWAY_PORT = far_servers.gateway_port
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    fill_prices()
    load_prompts(by=TESTER, now=timezone.now())
    yield far_servers.var
    sandboxes.choice.cache_clear()


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def join(house: Path, port: int, tmp_path: Path) -> Iterator[Callable[..., Far]]:
    """Start a remote worker under a name, and wait until it is online."""
    begun: list[Far] = []

    def start(name: str, runtime: str = "local", *options: str, **environment: str) -> Far:
        key, text = key_of(person(AccountRole.ADMIN, f"admin-{name}"), Scope.WORKERS_JOIN, now=timezone.now())
        var = tmp_path / name
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "EKLAVYA_WORKER_KEY": text, **environment}
        command = [sys.executable, "-m", "agents.worker", "--url", f"http://127.0.0.1:{port}"]
        command += ["--name", name, "--var", str(var), "--runtime", runtime, *options]
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=BASE_DIR, env=env, stdin=subprocess.DEVNULL, stderr=log)
        far = Far(process, var, key.pk, text)
        begun.append(far)
        wait_until(lambda: process.poll() is not None or Worker.objects.filter(key=key, load__has_key="cpu_percent"))
        assert process.poll() is None, far.said
        return far

    yield start
    for far in begun:
        if far.process.poll() is None:
            far.process.terminate()  # of a test that failed: its containers and networks go with it
        try:
            far.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            far.process.kill()
            far.process.wait()
        agents = LocalRuntime(state_dir=far.var / "sandboxes" / "local")
        for name in agents.list_sandboxes():  # of a worker that was killed
            agents.kill(name)


@pytest.fixture
def supervising(house: Path, far_servers: Servers, tmp_path: Path) -> Callable[[], AbstractContextManager[Any]]:
    """Begin a real worker of Celery's on our queues, which supervises and takes no runs of its own machine."""

    @contextmanager
    def begin() -> Iterator[subprocess.Popen[bytes]]:
        log = tmp_path / "supervising.log"
        own = {"name": configured.EKLAVYA_WORKER_NAME, "queue": configured.EKLAVYA_WORKER_QUEUE}
        if not Worker.objects.filter(**own).exists():  # cordoned before it announces itself: then it dispatches
            WorkerFactory(**own, status=WorkerStatus.OFFLINE, cordoned_at=timezone.now())
        environment = {
            "EKLAVYA_VAR": str(house),
            "EKLAVYA_GATEWAY_PORT": str(far_servers.gateway_port),
            "EKLAVYA_RUNTIME": "local",
            "EKLAVYA_STANDBYS": "0",
            "REDIS_URL": configured.REDIS_URL,
        }
        options = ["--without-mingle", "--without-gossip", "--hostname", "supervising@tests"]
        with celery("worker", *options, log=log, **environment) as process:
            wait_until(lambda: process.poll() is not None or "ready." in log.read_text())
            assert process.poll() is None, log.read_text()
            yield process

    return begin


@pytest.fixture
def keeper(house: Path) -> Iterator[LeaseKeeper]:
    """The supervising worker's lease keeper, which beats quickly."""
    made = new_keeper("server")
    made.start()
    yield made
    made.close()
