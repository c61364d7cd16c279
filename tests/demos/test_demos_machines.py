"""Previews where several machines could run them: each on one, and on another when that one is gone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from agents import sandboxes
from agents.models import Worker
from agents.runtimes.contract import Runtime
from agents.runtimes.local import LocalRuntime
from demos import actions, keeper, previews
from demos.models import Demo
from demos.states import DemoStatus
from projects.models import Project
from tests.demos.making import ADMIN, again, complete_demo_task, make_project, recorded
from tests.demos.repositories import APP, MANIFEST, commit_files
from tests.factories import WorkerFactory

pytestmark = pytest.mark.django_db
Sweep = Callable[[str], list[str]]


@pytest.fixture
def sweep(settings: Settings, tmp_path: Path) -> Iterator[Sweep]:
    """Have a machine do what beat asks of it; returns what runs there afterwards. They share the repositories."""
    machines: dict[str, Runtime] = {}

    def on(name: str) -> list[str]:
        settings.EKLAVYA_WORKER_NAME, settings.EKLAVYA_VAR = name, tmp_path / name
        if name not in machines:
            (tmp_path / "repositories").mkdir(exist_ok=True)
            (tmp_path / name).mkdir()
            (tmp_path / name / "repositories").symlink_to(tmp_path / "repositories")
            machines[name] = LocalRuntime(state_dir=tmp_path / name / "local")
        for demo_id in keeper.keep(machines[name]):
            keeper.show(demo_id, machines[name])
        return previews.list_previews(machines[name])

    yield on
    for made in machines.values():
        for name in made.list_sandboxes():
            made.kill(name)


@pytest.fixture
def project(sweep: Sweep) -> Project:
    """Its demo task is done, and nobody has shown it yet; two machines beat."""
    for name in ("atlas", "boreas"):
        WorkerFactory(name=name)
        sweep(name)
    project = make_project(now=timezone.now())
    commit = commit_files(sandboxes.repository(project.pk), {"eklavya.toml": MANIFEST, "app.py": APP})
    complete_demo_task(project, commit=commit, now=timezone.now())
    return project


def test_a_preview_runs_on_one_machine_and_others_leave_it_alone(project: Project, sweep: Sweep) -> None:
    (name,) = sweep("atlas")
    demo = Demo.objects.get()
    assert (demo.status, demo.kept_by, demo.sandbox) == (DemoStatus.READY, "atlas", name)

    assert (sweep("boreas"), sweep("atlas"), sweep("boreas")) == ([], [name], [])

    assert again(demo).address == demo.address
    assert recorded("demo.preview_started") == recorded("demo.preview_moved") == []


def test_only_its_machine_stops_a_preview(project: Project, sweep: Sweep) -> None:
    sweep("atlas")
    demo = Demo.objects.get()
    actions.revoke_demo(demo, now=timezone.now(), by=ADMIN)

    sweep("boreas")
    assert again(demo).sandbox, "it runs elsewhere still"

    assert sweep("atlas") == []
    assert not again(demo).sandbox


def test_another_machine_shows_what_one_kept_that_is_gone_and_ends_it_when_it_is_back(
    project: Project, sweep: Sweep
) -> None:
    (name,) = sweep("atlas")
    demo = Demo.objects.get()
    before = demo.address
    Worker.objects.filter(name="atlas").update(status="offline")

    assert sweep("boreas") == [name]

    assert again(demo).kept_by == "boreas"
    assert demo.address != before
    assert [told["from"] for told in recorded("demo.preview_moved")] == ["atlas"]
    Worker.objects.filter(name="atlas").update(status="online")
    assert (sweep("atlas"), sweep("boreas")) == ([], [name])


def test_of_two_machines_one_takes_what_nobody_keeps(project: Project) -> None:
    demo = keeper.open_for(project.tasks.get(kind="demo"))
    one, other = Demo.objects.get(pk=demo.pk), Demo.objects.get(pk=demo.pk)
    now = timezone.now()

    assert actions.take_preview(one, worker="atlas", now=now, by=ADMIN)
    assert not actions.take_preview(other, worker="boreas", now=now, by=ADMIN)

    assert again(demo).kept_by == "atlas"


def test_a_machine_that_the_portal_cannot_reach_shows_nothing(
    project: Project, sweep: Sweep, settings: Settings
) -> None:
    (name,) = sweep("atlas")
    settings.EKLAVYA_PREVIEWS = False
    assert sweep("atlas") == []
    assert Demo.objects.get().kept_by == ""

    settings.EKLAVYA_PREVIEWS = True
    assert sweep("boreas") == [name]


@pytest.mark.parametrize("status", ["online", "offline"])
def test_two_workers_of_one_data_directory_leave_each_others_previews(
    project: Project, sweep: Sweep, settings: Settings, status: str
) -> None:
    (name,) = sweep("atlas")
    (data,) = (directory / "home" / "data" for directory in previews.list_directories(keeper.previews_root()))
    (data / "kept").touch()
    machine = LocalRuntime(state_dir=settings.EKLAVYA_VAR / "local")
    settings.EKLAVYA_WORKER_NAME = "boreas"
    settings.EKLAVYA_PREVIEWS = status == "online"  # offline and nobody to take it: it comes back to what it had
    Worker.objects.filter(name="atlas").update(status=status)

    assert keeper.keep(machine) == []

    assert Demo.objects.get().kept_by == "atlas"
    assert previews.list_previews(machine) == [name]
    assert (data / "kept").exists()


def test_a_preview_and_its_data_go_to_another_worker_of_the_data_directory(
    project: Project, sweep: Sweep, settings: Settings
) -> None:
    (name,) = sweep("atlas")
    demo = Demo.objects.get()
    machine = LocalRuntime(state_dir=settings.EKLAVYA_VAR / "local")
    settings.EKLAVYA_WORKER_NAME = "boreas"
    Worker.objects.filter(name="atlas").update(status="offline")

    for demo_id in keeper.keep(machine):
        keeper.show(demo_id, machine)

    assert (again(demo).kept_by, again(demo).address) == ("boreas", demo.address), "it ran on"
    assert previews.list_previews(machine) == [name]
