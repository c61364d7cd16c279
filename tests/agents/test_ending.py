"""Everything in sandboxes is ended with the whole, or is named."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from agents import sandboxes
from agents.ending import end_all
from agents.runtimes import firewall
from agents.runtimes.contract import Runtime, SandboxSpec
from agents.runtimes.docker import DockerRuntime


@pytest.fixture(autouse=True)
def var(settings: Settings, tmp_path: Path) -> Path:
    settings.EKLAVYA_VAR = tmp_path
    return tmp_path


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    docker, local = sandboxes.every_runtime()
    made: Runtime = docker if request.param == "docker" else local
    yield made
    for project in made.list_projects():
        made.remove_project(project)
    if made is docker:
        docker.remove_rules()


def spec_of(name: str, *, project: str, root: Path) -> SandboxSpec:
    for part in ("workspace", "home"):
        (root / name / part).mkdir(parents=True)
    places = {part: root / name / part for part in ("workspace", "home", "control")}
    return SandboxSpec(name=name, project=project, **places)


def test_all_sandboxes_and_networks_are_ended_without_a_database(runtime: Runtime, tmp_path: Path) -> None:
    for name, project in [("demo-1", "one"), ("run-1", "one"), ("check-1", "two")]:
        runtime.start(spec_of(name, project=project, root=tmp_path / "places"), "exec sleep 60", wait_s=0)

    assert end_all() == []

    assert runtime.list_sandboxes() == ()
    assert runtime.list_projects() == ()
    if isinstance(runtime, DockerRuntime) and not firewall.why_not():
        assert runtime._firewall.bridges not in subprocess.check_output(["iptables-save"], text=True)


def test_a_daemon_that_does_not_answer_is_said_where_it_was_used(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/docker.sock")
    assert end_all() == []
    (var / "sandboxes" / "docker").mkdir(parents=True)

    (left,) = end_all()

    assert left.startswith("what runs in docker sandboxes cannot be seen (No Docker daemon answers")
    docker, _ = sandboxes.every_runtime()
    assert left.endswith(f"or run: {docker.ending_command(())}")
    assert docker.ending_command(["demo-1", "run-1"]).startswith("docker rm --force eklavya-")
