"""What the supervisor's tests stand on: the servers behind an agent as processes, a small product, and a worker.

Everything is real but the model: the CLI in a local sandbox, the gateway with its database, Git, the verification.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import psutil
from django.db import connection
from django.utils import timezone

from agents.actions import recovery
from agents.actions.dispatch import dispatch
from agents.models import Run, RunEvent
from agents.sandboxes import repository, run_directory, runtime
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.supervise import supervise
from agents.supervisor.workplace import sandbox_name
from agents.workspace.values import PLATFORM
from eklavya.env import BASE_DIR
from projects.models import Project, Task
from projects.roles import Role
from projects.states import TaskKind, TaskStatus
from tests.factories import NOW, ProjectFactory, TaskFactory

T = TypeVar("T")
DEADLINE_S = 120.0
POLL_S = 0.02

# The least that the platform accepts as a product: one page, one test.
PRODUCT = {
    "eklavya.toml": '[project]\nname = "Tools"\n[commands]\n'
    'test = "python3 -m unittest discover -s tests -t ."\nstart = "python3 -m app"\n',
    "app/__init__.py": "",
    "app/__main__.py": "import os\n"
    "from http.server import HTTPServer, SimpleHTTPRequestHandler\n"
    'HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), SimpleHTTPRequestHandler).serve_forever()\n',
    "tests/__init__.py": "",
    "tests/test_app.py": "import unittest\n\n\nclass AppTest(unittest.TestCase):\n"
    "    def test_counts(self):\n        self.assertEqual(1 + 1, 2)\n",
}
BRIEF = "A web application in which a tool library lends tools: name, owner. Nothing else is needed."


@dataclass(frozen=True)
class Servers:
    """The gateway and the rehearsal model, which runs in a process of its own each, on the test's database."""

    var: Path
    gateway_port: int


@contextmanager
def start_servers(var: Path) -> Iterator[Servers]:
    """Run both until the `with` ends."""
    with socket.create_server(("127.0.0.1", 0)) as model, socket.create_server(("127.0.0.1", 0)) as gateway:
        ports = model.getsockname()[1], gateway.getsockname()[1]
        env = environment(var, *ports)
        with (
            serve("agents.rehearsal.server:app", model, env=env, log=var / "model.log"),
            serve("eklavya.gateway_asgi:application", gateway, env=env, log=var / "gateway.log"),
        ):
            yield Servers(var, ports[1])


def environment(var: Path, model_port: int, gateway_port: int) -> dict[str, str]:
    """Return the environment of a server behind the agents of a test."""
    of = connection.settings_dict
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "eklavya.settings",
        "DATABASE_URL": f"postgresql://{of['USER']}@/{of['NAME']}?host={of['HOST']}",
        "EKLAVYA_VAR": str(var),
        "EKLAVYA_REHEARSAL_PORT": str(model_port),
        "EKLAVYA_GATEWAY_PORT": str(gateway_port),
        "EKLAVYA_RUNTIME": "local",
        "PGAPPNAME": "gateway",
    }


@contextmanager
def serve(app: str, listener: socket.socket, *, env: dict[str, str], log: Path) -> Iterator[None]:
    """Run a server at a socket that listens already, until the `with` ends."""
    fd = listener.fileno()
    command = [sys.executable, "-m", "uvicorn", app, "--fd", str(fd), "--log-level", "warning", "--ws", "none"]
    env = env | {"EKLAVYA_DB_POOL_SIZE": "20"}  # a pool as in the product: this process ends before the database does
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=BASE_DIR, env=env, pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        port = listener.getsockname()[1]
        wait_until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False, timeout=1).is_success
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], T], *, deadline_s: float = DEADLINE_S) -> T:
    """Look again until there is something, and return it, or fail."""
    give_up = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(POLL_S)
    return found


def lose(run: Run) -> Run:
    """Have the sweep of an hour later end a run, and return it. A sweep leaves out what is just being written."""

    def sweep() -> list[Run]:
        return [one for one in recovery.end_lost_runs(now=timezone.now() + timedelta(hours=1)) if one.pk == run.pk]

    (lost,) = wait_until(sweep)
    return lost


def task_of(
    kind: TaskKind, role: Role = Role.DEVELOPER, *, order: str = "", project: Project | None = None, **fields: Any
) -> Task:
    """Return a ready task. `order` tells the rehearsal model how to misbehave at it."""
    status = {TaskKind.BUILD: "building", TaskKind.DEMO: "demo", TaskKind.MENTOR: "building"}.get(kind, "planning")
    project = project or ProjectFactory(status=status, description=BRIEF)
    description = f"[[rehearsal: {order}]]" if order else ""
    made: Task = TaskFactory(kind=kind, role=role, project=project, description=description, **fields)
    return made


def seed(project: Project, files: dict[str, str] | None = None) -> str:
    """Put files on main, as if earlier runs had brought them; return the commit."""
    repo = repository(project.pk)
    old = repo.create()
    clone = run_directory(UUID(int=0)).with_name(f"seed-{project.pk}")
    repo.clone_for_run("seed", clone, author=PLATFORM)
    for path, text in (PRODUCT if files is None else files).items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
    commit = repo.collect("seed", clone, author=PLATFORM).commit
    shutil.rmtree(clone)
    repo.advance_main(expected_old=old, new=commit)
    return commit


def hand_out(*tasks: Task) -> list[Run]:
    """Have the dispatcher make a run for each of the tasks, however soon it would be their turn."""
    Task.objects.filter(pk__in=[task.pk for task in tasks]).update(next_attempt_at=NOW)
    made: dict[UUID, Run] = {}

    def give_out() -> bool:
        dispatch(now=timezone.now())
        made.update({run.task_id: run for run in Run.objects.filter(status="queued")})
        return made.keys() >= {task.pk for task in tasks}

    wait_until(give_out)  # what a keeper's beat has just now, such as an agent's row, is left out
    return [made[task.pk] for task in tasks]


def attempt(task: Task, keeper: LeaseKeeper) -> Run:
    """Have one run of a task made and done, here and now."""
    (run,) = hand_out(task)
    supervise(run.pk, keeper=keeper, runtime=runtime(), clock=timezone.now)
    task.refresh_from_db()
    return Run.objects.select_related("agent", "task", "project").get(pk=run.pk)


@dataclass
class Supervised:
    """A run that is being supervised in another thread."""

    run: Run
    keeper: LeaseKeeper
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._work, name=f"supervise-{self.run.pk}")
        self.thread.start()

    def _work(self) -> None:
        try:
            supervise(self.run.pk, keeper=self.keeper, runtime=runtime(), clock=timezone.now)
        finally:
            connection.close()

    def wait_for(self, condition: Callable[[Run], object]) -> Run:
        """Wait until the run's row is so."""

        def look() -> bool:
            self.run.refresh_from_db()
            return bool(condition(self.run))

        wait_until(look)
        return self.run

    def wait_for_line(self, kind: str) -> None:
        """Wait until the transcript has a line of this kind."""
        wait_until(lambda: RunEvent.objects.filter(run=self.run, kind=kind).exists())

    def join(self) -> Run:
        """Wait for the supervisor's end."""
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "the supervisor did not end"
        return Run.objects.select_related("agent", "task", "project").get(pk=self.run.pk)


def processes_of(run: Run) -> list[psutil.Process]:
    """Return what runs in the sandbox of a run, whoever its parent is."""
    here = str(run_directory(run.pk))
    return [process for process in psutil.process_iter() if here in _where(process)]


def _where(process: psutil.Process) -> str:
    try:
        return " ".join([process.cwd(), *process.cmdline()])
    except (psutil.Error, OSError):
        return ""


def assert_nothing_is_left(run: Run) -> None:
    """No process, no directory, no sandbox and no token of the run."""
    assert processes_of(run) == []
    assert not run_directory(run.pk).exists()
    assert not runtime().is_alive(sandbox_name(run))
    assert list(run_directory(run.pk).parent.glob("*checks*")) == []
    run.refresh_from_db()
    assert run.token_hash == ""


def transcript_of(run: Run) -> list[RunEvent]:
    """Return a run's transcript, which must have no gap."""
    lines = list(RunEvent.objects.filter(run=run).order_by("seq"))
    run.refresh_from_db()
    assert [line.seq for line in lines] == list(range(1, run.last_seq + 1))
    return lines


def is_ready_again(task: Task, *, attempts: int) -> bool:
    """Whether a task waits to be tried again, and has used up so many attempts."""
    task.refresh_from_db()
    return (task.status, task.attempts, task.agent_id) == (TaskStatus.READY, attempts, None)
