"""The permissions matrix, cell by cell, from inside: the real CLI in a container, whose model tries everything.

One run for each role. Its model calls each tool in turn, whether it was offered or not, and what came of every call is
held against the role table (which tests/agents/test_roles.py holds against the seed's matrix).
"""

import json
import re
import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from agents import sandboxes
from agents.models import Run
from agents.roles import ROLES, Git, RolePolicy, Terminal
from agents.runtimes.docker import DockerRuntime
from agents.sandboxes import network_name
from agents.supervisor.supervise import supervise
from learning.actions import load_prompts
from projects.roles import Role
from projects.states import TaskKind
from tests.agents.gateway.harness import fill_prices
from tests.agents.rehearsal.rehearsal_support import serving
from tests.agents.runtimes.test_conformance import host_server
from tests.agents.scripted_model import Call, ScriptedModel
from tests.agents.supervisor.conftest import new_keeper
from tests.agents.supervisor.line import Servers, environment, hand_out, seed, serve, task_of
from tests.factories import TESTER, WorkerFactory

pytestmark = [pytest.mark.docker, pytest.mark.cli, pytest.mark.django_db(transaction=True)]

PLACES = {"app/cell.py": "app", "tests/cell.py": "tests", "docs/cell.md": "docs"}
OTHER_VERBS = ("submit_plan", "submit_demo", "ask_client", "submit_requirements", "reply_mentor")


# What a program tries, whatever the CLI lets its agent do: here the kernel refuses, or nobody. Each line is a cell.
PROGRAM = """
import json, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
git = lambda *args: subprocess.run(["git", *args], check=True, capture_output=True)
connect = lambda *address: socket.create_connection(address, timeout=2)
socket.setdefaulttimeout(2)
CELLS = {
    "program writes app": lambda: open("app/program.py", "w"),
    "program writes tests": lambda: open("tests/program.py", "w"),
    "program writes docs": lambda: open("docs/program.md", "w"),
    "program writes the system": lambda: open("/usr/bin/program", "w"),
    "git log": lambda: git("log", "-1"),
    "git commit": lambda: git("commit", "--allow-empty", "-m", "x"),
    "git config": lambda: open(".git/config", "a").write("[core]"),
    "gateway": lambda: connect(HOST, GATEWAY_PORT),
    "service of the host": lambda: connect(HOST, CLOSED_PORT),
    "internet": lambda: connect("1.1.1.1", 443),
    "metadata": lambda: connect("169.254.169.254", 80),
    "name": lambda: socket.getaddrinfo("example.com", 443),
}
def works(cell):
    try:
        cell()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
with ThreadPoolExecutor(len(CELLS)) as pool:
    print(json.dumps(dict(zip(CELLS, pool.map(works, CELLS.values())))))
"""
OF_PROGRAM = re.findall(r'^    "(.+?)": lambda', PROGRAM, re.MULTILINE)


@dataclass
class Tried:
    """What one run tried, by a name for each call. In one turn are calls that take no others with them."""

    turns: list[dict[str, Call]] = field(default_factory=list)
    model: ScriptedModel = field(init=False)

    def __post_init__(self) -> None:
        self.model = ScriptedModel(lambda text: self.steps if "<task-context>" in text else [])

    @property
    def steps(self) -> list[list[Call]]:
        """The script for the model."""
        return [list(turn.values()) for turn in self.turns]

    def result(self, name: str) -> str:
        """What came of a call."""
        (key,) = [f"toolu_{at}_{list(turn).index(name)}" for at, turn in enumerate(self.turns) if name in turn]
        return self.model.results[key]

    def works(self, cell: str) -> bool:
        """Whether a call, or a part of the program, did what it was to do."""
        if cell not in OF_PROGRAM:
            return not self.result(cell).startswith("error: ")
        said = self.result("program")
        return not said.startswith("error: ") and bool(json.loads(said.splitlines()[0])[cell])


def bash(command: str) -> Call:
    return "Bash", {"command": command, "description": "Try"}


def attempts(**numbers: object) -> list[dict[str, Call]]:
    """Return everything that every role tries, by turns. `numbers` are what the program connects to."""
    known = "".join(f"{name} = {value!r}\n" for name, value in numbers.items())
    return [
        {f"write {place}": ("Write", {"file_path": path, "content": "x = 1\n"}) for path, place in PLACES.items()},
        {
            "read": ("Read", {"file_path": "app/__main__.py"}),
            "read git": ("Read", {"file_path": ".git/HEAD"}),
            "browser": ("mcp__browser__start", {}),
            "spawn": ("Agent", {"description": "Help", "prompt": "Help.", "subagent_type": "general-purpose"}),
            **{f"verb {verb}": (f"mcp__eklavya__{verb}", {"summary": "x"}) for verb in OTHER_VERBS},
        },
        # One at a time: the CLI does not run what stands beside a command that failed.
        {"program": bash(f"python3 -c {shlex.quote(known + PROGRAM)}")},
        {"command to look": bash("ls app")},
        {"test command": bash("mkdir /tmp/copy")},
        {"other command": bash("touch /tmp/made")},
        {"end": ("mcp__eklavya__task_failed", {"reason": "All was tried."})},
    ]


@pytest.fixture(scope="module")
def tried() -> Tried:
    return Tried()


@pytest.fixture(scope="module")
def servers(
    tried: Tried, django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The gateway on all addresses, as containers need it, with the scripted model behind it."""
    var = tmp_path_factory.mktemp("var")
    with serving(tried.model.app()) as url, socket.create_server(("0.0.0.0", 0)) as gateway:
        port = gateway.getsockname()[1]
        env = environment(var, int(url.rpartition(":")[2]), port)
        with serve("eklavya.gateway_asgi:application", gateway, env=env, log=var / "gateway.log"):
            yield Servers(var, port)


@pytest.fixture
def house(servers: Servers, transactional_db: None, settings: Settings) -> Iterator[DockerRuntime]:
    settings.EKLAVYA_VAR = servers.var
    settings.EKLAVYA_GATEWAY_PORT = servers.gateway_port
    settings.EKLAVYA_RUNTIME = "docker"
    sandboxes.choice.cache_clear()
    WorkerFactory(capacity=8)
    fill_prices()
    load_prompts(by=TESTER, now=timezone.now())
    runtime = sandboxes.runtime()
    assert isinstance(runtime, DockerRuntime)
    yield runtime
    for project in runtime.list_projects():
        runtime.remove_project(project)
    runtime.remove_rules()
    sandboxes.choice.cache_clear()


def try_all(role: Role, tried: Tried, runtime: DockerRuntime, gateway_port: int) -> Run:
    """Have one run of the role try everything."""
    kind = TaskKind.MENTOR if role is Role.MENTOR else TaskKind.BUILD
    task = task_of(kind, role, context={"mentor_question": {"question": "How?"}} if kind is TaskKind.MENTOR else {})
    seed(task.project)
    host = runtime.host_address(network_name(task.project_id))
    (run,) = hand_out(task)
    keeper = new_keeper("here")
    keeper.start()
    try:
        with host_server("0.0.0.0", 0) as closed_port:
            tried.turns = attempts(HOST=host, CLOSED_PORT=closed_port, GATEWAY_PORT=gateway_port)
            tried.model.results.clear()
            supervise(run.pk, keeper=keeper, runtime=runtime, clock=timezone.now)
    finally:
        keeper.close()
    run.refresh_from_db()
    return run


def expected(policy: RolePolicy) -> dict[str, bool]:
    """Return what works for a policy."""
    has_shell, allows = bool(policy.terminal), policy.path_policy.allows
    commits = has_shell and Git.WRITE in policy.git
    return {
        **{f"write {place}": allows(path) for path, place in PLACES.items()},
        **{f"program writes {place}": has_shell and allows(path) for path, place in PLACES.items()},
        "program writes the system": False,
        "read": True,
        "read git": Git.READ in policy.git,
        "git log": has_shell,
        "git commit": commits,
        "git config": commits,
        "command to look": has_shell,
        "test command": Terminal.TEST in policy.terminal,
        "other command": Terminal.OTHER in policy.terminal,
        "spawn": policy.spawn,
        "browser": policy.browser,
        "gateway": has_shell,
        **dict.fromkeys(["service of the host", "internet", "metadata", "name"], False),
        **{f"verb {verb}": False for verb in OTHER_VERBS},
        "end": True,
    }


@pytest.mark.parametrize("role", list(Role))
def test_every_cell_of_the_matrix(
    role: Role, tried: Tried, house: DockerRuntime, servers: Servers, subtests: pytest.Subtests
) -> None:
    policy = ROLES[role]

    run = try_all(role, tried, house, servers.gateway_port)

    assert (run.status, run.outcome.get("verb")) == ("failed", "task_failed"), run.detail
    for cell, works in expected(policy).items():
        with subtests.test(cell):
            assert tried.works(cell) is works, tried.result("program" if cell in OF_PROGRAM else cell)
    with subtests.test("tools"):
        verbs = {name.removeprefix("mcp__eklavya__") for name in tried.model.offered if "eklavya" in name}
        assert verbs <= policy.verbs
        assert ("WebFetch" in tried.model.offered) == (policy.egress in {"research", "full"})
