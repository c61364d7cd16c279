"""Sandboxes for tests: a runtime of either kind, specifications for it, and a way to see what still lives."""

import fcntl
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.runtimes.contract import Runtime, SandboxSpec
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.local import LocalRuntime

IMAGE = os.environ.get("EKLAVYA_IMAGE", "eklavya-sandbox:latest")
# Networks of tests stay out of the range that an installation on the same daemon uses.
SUBNETS = "10.214.0.0/16"

# The one port at which containers of tests reach the host.
HOST_PORT = 23117

MakeSpec = Callable[..., SandboxSpec]


def make_runtime(kind: str, state_dir: Path) -> Runtime:
    """The same runtime for the same arguments, in whatever process."""
    if kind == "local":
        return LocalRuntime(state_dir=state_dir)
    return DockerRuntime(
        state_dir=state_dir, image=IMAGE, namespace=namespace_of(state_dir), subnets=SUBNETS, host_ports=(HOST_PORT,)
    )


def namespace_of(state_dir: Path) -> str:
    """A namespace that no other test run on the same daemon uses."""
    return f"test-{hashlib.sha256(str(state_dir).encode()).hexdigest()[:12]}"


@pytest.fixture(scope="module", params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtime") / "state"


@pytest.fixture(scope="module")
def runtime(kind: str, state_dir: Path) -> Iterator[Runtime]:
    made = make_runtime(kind, state_dir)
    yield made
    for project in made.list_projects():
        made.remove_project(project)
    if isinstance(made, DockerRuntime):
        made.remove_rules()


@pytest.fixture
def again(kind: str, state_dir: Path) -> Runtime:
    """The same runtime, as another process would make it."""
    return make_runtime(kind, state_dir)


_numbers = itertools.count()


@pytest.fixture
def make_spec(tmp_path: Path, runtime: Runtime) -> Iterator[MakeSpec]:
    made = []

    def make(**changes: Any) -> SandboxSpec:
        name = f"s{next(_numbers)}"
        for directory in ("workspace", "home"):
            (tmp_path / name / directory).mkdir(parents=True)
        places = {key: tmp_path / name / key for key in ("workspace", "home", "control")}
        spec = SandboxSpec(**{"name": name, "project": "one", **places, **changes})
        made.append(spec.name)
        return spec

    yield make
    for name in made:
        runtime.kill(name)


@pytest.fixture
def spec(make_spec: MakeSpec) -> SandboxSpec:
    return make_spec()


# A command that begins with this holds a lock for as long as any process lives that descends from it, whatever group,
# session or parent it has: locks belong to the open file, which all of them inherit. Nobody has to look for processes.
HOLD = "exec 9>held; flock 9; "


def is_held(spec: SandboxSpec) -> bool:
    """Whether anything that began with HOLD in this workspace lives."""
    path = spec.workspace / "held"
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
