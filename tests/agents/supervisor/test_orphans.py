import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from agents import sandboxes
from agents.models import Run
from agents.runtimes.contract import SandboxSpec
from agents.sandboxes import runtime
from agents.supervisor import orphans
from projects.ids import new_id
from tests.factories import RunFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def var(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield tmp_path
    for name in runtime().list_sandboxes():
        runtime().kill(name)
    sandboxes.choice.cache_clear()


def start(name: str, var: Path) -> str:
    """A sandbox with a process in it, as a supervisor that was killed leaves it."""
    for part in ("w", "h"):
        (var / part).mkdir(exist_ok=True)
    spec = SandboxSpec(name=name, project="p1", workspace=var / "w", home=var / "h", control=var / "c")
    runtime().start(spec, "sleep 60", wait_s=0)
    return name


def directory(path: Path, *, age: timedelta) -> Path:
    (path / "workspace").mkdir(parents=True)
    then = (timezone.now() - age).timestamp()
    os.utime(path, (then, then))
    return path


def ended() -> Run:
    run: Run = RunFactory(status="lost")
    return run


def test_sandboxes_of_ended_runs_are_killed(var: Path) -> None:
    run, active = ended(), RunFactory(status="running")
    start(f"run-{run.pk.hex}", var)
    start(f"check-{run.pk.hex}-test", var)
    kept = {start(f"run-{active.pk.hex}", var), start(f"check-{active.pk.hex}-app", var), start("demo-1", var)}

    orphans.clear(runtime(), now=timezone.now())

    assert set(runtime().list_sandboxes()) == kept


def test_what_a_killed_check_of_a_delivery_left_is_cleared_away(var: Path) -> None:
    old, young = new_id(), new_id()
    gone = directory(var / "checks" / f"delivery-{old.hex}-test-abc", age=timedelta(hours=1))
    kept = directory(var / "checks" / f"delivery-{young.hex}-test-abc", age=timedelta(minutes=1))
    start(f"delivery-{old.hex}-test", var)
    kept_sandbox = start(f"delivery-{young.hex}-test", var)

    orphans.clear(runtime(), now=timezone.now())

    assert runtime().list_sandboxes() == (kept_sandbox,)
    assert (gone.exists(), kept.exists()) == (False, True)


def test_old_directories_of_ended_runs_are_removed(var: Path) -> None:
    run, active, long = ended(), RunFactory(status="running"), timedelta(hours=1)
    gone = [
        directory(var / "runs" / str(run.pk), age=long),
        directory(var / "checks" / f"check-{run.pk.hex}-test-abc", age=long),
    ]
    kept = [
        directory(var / "runs" / str(active.pk), age=long),
        directory(var / "runs" / str(ended().pk), age=timedelta(0)),
        directory(var / "checks" / f"check-{active.pk.hex}-app-abc", age=long),
        directory(var / "runs" / "notes", age=long),
    ]

    orphans.clear(runtime(), now=timezone.now())

    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_nothing_there_is_fine() -> None:
    orphans.clear(runtime(), now=timezone.now())
