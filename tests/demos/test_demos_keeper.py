"""Rows and previews brought together, with real processes of the local runtime."""

import os
import signal
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from django.utils import timezone
from pytest_django import Settings

from agents import sandboxes
from agents.runtimes.contract import Runtime, SandboxSpec
from agents.runtimes.errors import RuntimeUnavailable
from agents.runtimes.local import LocalRuntime
from agents.runtimes.processes import poll
from demos import actions, keeper, previews, queries
from demos.models import Demo
from demos.states import DemoStatus
from projects.actions import projects
from projects.models import Approval, Project
from projects.states import ApprovalKind, ProjectStatus, TaskKind
from tests.demos.making import ADMIN, again, complete_demo_task, decide, make_project, question_of, recorded
from tests.demos.repositories import APP, MANIFEST, commit_files

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("var")]
GOOD = {"eklavya.toml": MANIFEST, "app.py": APP}


class NoRuntime(LocalRuntime):
    """A machine whose daemon went away."""

    def service(self, name: str) -> None:
        raise RuntimeUnavailable("No daemon answers.")


@pytest.fixture
def project() -> Project:
    return make_project(now=timezone.now())


def build(project: Project, files: dict[str, str] = GOOD) -> str:
    """Have the open demo task completed with these files; returns the commit."""
    commit = commit_files(sandboxes.repository(project.pk), files)
    complete_demo_task(project, commit=commit, now=timezone.now())
    return commit


def sweep(runtime: Runtime) -> None:
    """What beat and the worker do together."""
    for demo_id in keeper.keep(runtime):
        keeper.show(demo_id, runtime)


def shown(project: Project, runtime: Runtime) -> Demo:
    """The project's next demo, ready."""
    build(project)
    sweep(runtime)
    demo = project.demos.latest("pk")
    assert demo.status == DemoStatus.READY, demo.detail
    return demo


def visit(demo: Demo) -> str:
    return httpx.get(f"http://{demo.address}/", timeout=60, trust_env=False).text


def test_a_completed_demo_task_becomes_an_open_demo(project: Project, runtime: Runtime) -> None:
    commit = build(project)

    sweep(runtime)

    demo = project.demos.get()
    assert (demo.status, demo.commit, demo.summary) == (DemoStatus.READY, commit, "It sells.")
    assert visit(demo).startswith("visit 1 ")
    assert question_of(demo).is_open


def test_a_sweep_with_nothing_to_do_does_nothing(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)

    assert keeper.keep(runtime) == []
    keeper.show(demo.pk, runtime)

    assert visit(demo).startswith("visit 1 ")
    assert recorded("demo.preview_started") == []


def test_a_demo_without_manifest_is_built_anew(project: Project, runtime: Runtime) -> None:
    build(project, {"app.py": APP})

    sweep(runtime)

    assert project.demos.get().reason == "no_manifest"
    assert project.tasks.filter(kind=TaskKind.DEMO).latest("pk").key == "demo-2"


def test_a_demo_whose_starter_died_is_taken_up_by_the_next_sweep(project: Project, runtime: Runtime) -> None:
    build(project)
    demo = keeper.open_for(project.tasks.get(kind=TaskKind.DEMO))
    repository = sandboxes.repository(project.pk)
    handle = previews.start(keeper.preview_of(demo), repository=repository, runtime=runtime)
    # Here the worker is killed: the sandbox runs, the row says "building".

    sweep(runtime)

    assert again(demo).status == DemoStatus.READY
    assert demo.address == f"{handle.host}:{handle.port}"


def test_a_dead_preview_starts_again_with_its_data(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)
    os.kill(int(visit(demo).rsplit(" ", 1)[1]), signal.SIGKILL)
    preview = keeper.preview_of(demo)
    assert poll(lambda: previews.find(preview, runtime) is None, timeout_s=60)

    sweep(runtime)

    assert visit(again(demo)).startswith("visit 2 ")
    assert demo.status == DemoStatus.READY


def test_a_shown_demo_that_cannot_be_restarted_is_tried_later_and_says_so(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)
    runtime.kill(demo.sandbox)
    broken = GOOD | {"eklavya.toml": '[commands]\nstart = "exit 1"\n'}
    Demo.objects.filter(pk=demo.pk).update(commit=commit_files(sandboxes.repository(project.pk), broken))

    sweep(runtime)

    assert (again(demo).status, demo.reason, demo.address) == (DemoStatus.READY, "preview_down", "")
    assert keeper.keep(runtime) == []


def test_a_platform_without_runtime_fails_no_demo(project: Project, runtime: Runtime, tmp_path: Path) -> None:
    build(project)
    demo = keeper.open_for(project.tasks.get(kind=TaskKind.DEMO))

    keeper.show(demo.pk, NoRuntime(state_dir=tmp_path / "local"))
    assert (again(demo).status, demo.reason, demo.detail) == ("building", "preview_down", "No daemon answers.")

    keeper.show(demo.pk, runtime)
    assert (again(demo).status, demo.reason) == ("ready", "")


def test_a_demo_that_does_not_start_while_the_disk_is_full_is_tried_later(
    project: Project, runtime: Runtime, settings: Settings
) -> None:
    build(project, {"eklavya.toml": MANIFEST, "app.py": "raise OSError(28, 'No space left on device')\n"})
    free, settings.EKLAVYA_MIN_DISK_MB = settings.EKLAVYA_MIN_DISK_MB, 10**9  # more than there is

    sweep(runtime)

    demo = project.demos.get()
    assert (demo.status, demo.reason) == (DemoStatus.BUILDING, "preview_down")
    settings.EKLAVYA_MIN_DISK_MB = free
    keeper.show(demo.pk, runtime)
    assert (again(demo).status, demo.reason) == (DemoStatus.EXPIRED, "did_not_start")


def test_a_demo_that_somebody_else_starts_is_left_alone(project: Project, runtime: Runtime) -> None:
    build(project)
    demo = keeper.open_for(project.tasks.get(kind=TaskKind.DEMO))

    with previews.claim(keeper.preview_of(demo)):
        keeper.show(demo.pk, runtime)

    assert again(demo).status == DemoStatus.BUILDING
    assert not runtime.list_sandboxes()


def test_an_expired_demo_is_ended_and_its_preview_removed(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)
    name = demo.sandbox
    Demo.objects.filter(pk=demo.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    sweep(runtime)

    assert (again(demo).status, demo.reason, demo.sandbox, demo.address) == ("expired", "not_decided", "", "")
    assert not runtime.is_alive(name)
    assert not keeper.preview_of(demo).directory.exists()


def test_an_expired_demo_that_is_extended_runs_again(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)
    Demo.objects.filter(pk=demo.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    sweep(runtime)

    actions.extend_demo(again(demo), days=1, now=timezone.now(), by=ADMIN)
    sweep(runtime)

    assert again(demo).status == DemoStatus.READY
    assert visit(demo).startswith("visit 1 ")
    assert Approval.objects.filter(kind=ApprovalKind.DEMO, subject_id=demo.pk).count() == 2


def test_an_approved_demo_stays_up_until_its_end(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)
    decide(demo, "approve", now=timezone.now())
    sweep(runtime)
    assert visit(again(demo))

    Demo.objects.filter(pk=demo.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    sweep(runtime)

    assert (again(demo).status, demo.sandbox) == ("approved", "")
    assert not runtime.list_sandboxes()


def test_a_revoked_demo_runs_no_more(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)

    actions.revoke_demo(demo, now=timezone.now(), by=ADMIN)
    sweep(runtime)

    assert not runtime.list_sandboxes()
    assert again(demo).sandbox == ""


def test_a_cancelled_project_keeps_no_demo(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)
    projects.cancel_project(again(demo).project, reason="", by=ADMIN, now=timezone.now())

    sweep(runtime)

    assert (again(demo).status, demo.reason) == ("expired", "project_ended")
    assert not runtime.list_sandboxes()


def test_a_paused_project_opens_its_demo_when_it_goes_on(project: Project, runtime: Runtime) -> None:
    build(project)
    projects.pause_project(project, reason="lunch", by=ADMIN, now=timezone.now())
    sweep(runtime)
    assert not project.demos.exists()

    projects.resume_project(project, by=ADMIN, now=timezone.now())
    sweep(runtime)

    assert project.demos.get().status == DemoStatus.READY


def test_a_preview_without_a_row_is_ended_and_other_sandboxes_are_not(runtime: Runtime, tmp_path: Path) -> None:
    for name, labels in (("demo-0123456789abcdef", previews.LABELS), ("demo-like-run", {"kind": "run"})):
        places = {key: tmp_path / name / key for key in ("workspace", "home", "control")}
        places["workspace"].mkdir(parents=True)
        places["home"].mkdir()
        spec = SandboxSpec(name=name, project="p1", labels=labels, **places)
        runtime.start(spec, "exec python3 -m http.server $PORT --bind $HOST")

    keeper.keep(runtime)

    assert runtime.list_sandboxes() == ("demo-like-run",)


def test_a_directory_without_a_row_is_removed(var: Path, runtime: Runtime) -> None:
    left = var / "previews" / "01990000-0000-7000-8000-000000000000"
    (left / "home").mkdir(parents=True)

    keeper.keep(runtime)

    assert not left.exists()


def test_one_failing_item_does_not_hold_up_the_rest(
    project: Project, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    complete_demo_task(project, commit="", now=timezone.now())
    other = make_project(now=timezone.now())

    demo = shown(other, runtime)

    assert demo.status == DemoStatus.READY
    assert "open_for failed" in caplog.text


def test_stop_all_ends_everything_and_the_next_sweep_brings_it_back(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)
    assert visit(demo).startswith("visit 1 ")

    keeper.stop_all(runtime)
    assert not runtime.list_sandboxes()
    assert (again(demo).status, demo.sandbox, demo.address) == ("ready", "", "")

    sweep(runtime)
    assert visit(again(demo)).startswith("visit 2 ")


def test_the_build_leaves_no_demo_waiting(project: Project, runtime: Runtime) -> None:
    demo = shown(project, runtime)

    decide(demo, "approve", now=timezone.now())

    assert demo.project.status == ProjectStatus.BUILDING
    assert not queries.tasks_without_demo().exists()
