"""What the tests of previews share: runtimes and repositories of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from agents.runtimes.contract import Runtime
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.local import LocalRuntime
from agents.workspace.repository import Repository
from demos.addresses import new_token
from tests.demos.repositories import APP, MANIFEST, commit_files


@pytest.fixture
def var(tmp_path: Path, settings: Settings) -> Path:
    """The data directory of this test alone."""
    settings.EKLAVYA_VAR = tmp_path / "var"
    return tmp_path / "var"


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def any_runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    """Each runtime in turn."""
    if request.param == "local":
        made: Runtime = LocalRuntime(state_dir=tmp_path / "local")
    else:
        made = DockerRuntime(
            state_dir=tmp_path / "docker",
            image=django_settings.EKLAVYA_IMAGE,
            namespace=f"eklavya-{new_token()[:8]}",
            subnets="10.217.0.0/16",
        )
    yield made
    for project in made.list_projects():
        made.remove_project(project)
    if isinstance(made, DockerRuntime):
        made.remove_rules()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The local one."""
    made = LocalRuntime(state_dir=tmp_path / "local")
    yield made
    for name in made.list_sandboxes():
        made.kill(name)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A project's repository; `commit` fills it."""
    return Repository(tmp_path / "canonical.git")


@pytest.fixture
def commit(repository: Repository) -> str:
    """A commit with an application that works."""
    return commit_files(repository, {"eklavya.toml": MANIFEST, "app.py": APP})
