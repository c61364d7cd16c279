from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from agents import sandboxes
from agents.runtimes.contract import check_name
from agents.runtimes.errors import RuntimeUnavailable
from projects.ids import new_id


@pytest.fixture(autouse=True)
def _fresh(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    sandboxes.choice.cache_clear()
    yield
    sandboxes.choice.cache_clear()


def test_everything_lies_below_the_data_directory(tmp_path: Path) -> None:
    project, run = new_id(), new_id()

    assert sandboxes.repository(project).path == tmp_path / "repositories" / f"{project}.git"
    assert sandboxes.run_directory(run) == tmp_path / "runs" / str(run)


def test_projects_made_in_one_moment_have_networks_of_their_own() -> None:
    names = {sandboxes.network_name(new_id()) for _ in range(1000)}

    assert len(names) == 1000
    for name in names:
        check_name(name)


def test_the_runtime_is_chosen_once(settings: Settings) -> None:
    settings.EKLAVYA_RUNTIME = "local"

    assert sandboxes.runtime() is sandboxes.runtime()
    assert (sandboxes.runtime().name, sandboxes.runtime().isolated) == ("local", False)


def without_docker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EKLAVYA_RUNTIME = "auto"
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def test_a_real_model_does_not_work_unisolated_by_accident(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    without_docker(settings, monkeypatch)
    settings.EKLAVYA_MODEL_MODE = "real"
    settings.EKLAVYA_ALLOW_LOCAL_RUNTIME = False

    with pytest.raises(RuntimeUnavailable, match="by name"):
        sandboxes.runtime()


@pytest.mark.parametrize(("mode", "allowed"), [("rehearsal", False), ("real", True)])
def test_without_docker_the_local_runtime_is_used_where_it_may_be(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mode: str, allowed: bool
) -> None:
    without_docker(settings, monkeypatch)
    settings.EKLAVYA_MODEL_MODE = mode
    settings.EKLAVYA_ALLOW_LOCAL_RUNTIME = allowed

    assert sandboxes.runtime().name == "local"


def test_installations_on_one_daemon_have_names_of_their_own(settings: Settings, tmp_path: Path) -> None:
    here = sandboxes._namespace()
    settings.EKLAVYA_VAR = tmp_path / "other"

    assert sandboxes._namespace() != here
