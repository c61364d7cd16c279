"""A real canonical repository, real clones, and an agent's hand in them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.workspace.repository import Repository
from agents.workspace.values import Author, Limits

DEV = Author("Dev One", "dev-1@agents.invalid")


class AgentClone:
    """What an agent does in its clone: it writes files and runs git there, trusting all of its configuration."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self.run_id = run_id

    def write(self, name: str, content: str | bytes = "content\n", *, mode: int = 0o644) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def git(self, *args: str, given: str = "", check: bool = True) -> str:
        done = subprocess.run(
            ["git", *args],
            cwd=self.path,
            input=given.encode(),
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
            capture_output=True,
            check=check,
            timeout=30,
        )
        return done.stdout.decode("utf-8", "replace").strip()

    def commit(self, message: str = "Work") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


class Sentinel:
    """A program that leaves a trace when it is run."""

    def __init__(self, directory: Path) -> None:
        self.trace = directory / "ran"
        self.program = directory / "sentinel"
        self.program.write_text(f"#!/bin/sh\ntouch '{self.trace}'\ncat 2>/dev/null\n")
        self.program.chmod(0o755)

    @property
    def ran(self) -> bool:
        return self.trace.exists()


@pytest.fixture(scope="session")
def created(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new repository, made once; each test gets a copy."""
    path = tmp_path_factory.mktemp("created") / "canonical.git"
    Repository(path).create()
    return path


@pytest.fixture
def repository(created: Path, tmp_path: Path) -> Repository:
    return Repository(Path(shutil.copytree(created, tmp_path / "canonical.git")))


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Repository]:
    """The same repository, seen with tighter limits."""
    return lambda **limits: Repository(tmp_path / "canonical.git", Limits(**limits))


@pytest.fixture
def start(repository: Repository, tmp_path: Path) -> Callable[[str], AgentClone]:
    def start(run_id: str) -> AgentClone:
        path = tmp_path / "runs" / run_id
        repository.clone_for_run(run_id, path, author=DEV)
        return AgentClone(path, run_id)

    return start


@pytest.fixture
def clone(start: Callable[[str], AgentClone]) -> AgentClone:
    return start("run-1")


@pytest.fixture
def collect(repository: Repository) -> Callable[[AgentClone], str]:
    """Collect a clone and give the commit."""
    return lambda clone: repository.collect(clone.run_id, clone.path, author=DEV).commit


@pytest.fixture
def deliver(repository: Repository, collect: Callable[[AgentClone], str]) -> Callable[[AgentClone], str]:
    """Collect a clone, merge it and move main; gives main's new commit."""

    def deliver(clone: AgentClone) -> str:
        collect(clone)
        candidate = repository.merge(clone.run_id, f"Merge {clone.run_id}")
        repository.advance_main(expected_old=candidate.parent, new=candidate.commit)
        return candidate.commit

    return deliver


@pytest.fixture
def sentinel(tmp_path: Path) -> Sentinel:
    directory = tmp_path / "sentinel"
    directory.mkdir()
    return Sentinel(directory)


@pytest.fixture(scope="session")
def author() -> Author:
    return DEV


@pytest.fixture(scope="session")
def agent_clone() -> type[AgentClone]:
    return AgentClone
