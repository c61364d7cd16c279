"""What is kept of old runs and what is not, in real repositories."""

import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from agents import housekeeping, sandboxes, tasks
from agents.models import Run
from agents.runtimes.docker import DockerRuntime
from agents.sandboxes import repository, run_directory
from agents.workspace.errors import BadName
from agents.workspace.values import PLATFORM
from projects.models import Project
from tests.factories import ProjectFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()
LONG_AGO = NOW - housekeeping.KEPT_FOR - timedelta(days=1)


@pytest.fixture(autouse=True)
def _var(settings: Settings, tmp_path: Path) -> None:
    settings.EKLAVYA_VAR = tmp_path


@pytest.fixture
def project() -> Project:
    made: Project = ProjectFactory(status="building")
    repository(made.pk).create()
    return made


def run_of(project: Project, *, text: str = "", **fields: object) -> str:
    """A run of which the repository keeps a base, a commit and a checkpoint; its id."""
    run: Run = RunFactory(task=TaskFactory(project=project, status="in_progress"), **fields)
    repo, name = repository(project.pk), str(run.pk)
    clone = run_directory(run.pk) / "workspace"
    repo.clone_for_run(name, clone, author=PLATFORM)
    (clone / "a.txt").write_text(text or name)
    repo.checkpoint(name, clone, seq=1)
    repo.collect(name, clone, author=PLATFORM)
    return name


def kept(project: Project) -> set[str]:
    return {ref.removeprefix("refs/eklavya/") for ref in repository(project.pk).private_refs()}


def all_of(run: str) -> set[str]:
    return {f"bases/{run}", f"runs/{run}", f"checkpoints/{run}/1"}


def test_what_lately_happened_is_kept_and_the_rest_goes(project: Project) -> None:
    working = run_of(project, status="running")
    recent = run_of(project, status="failed", reason="tests_failed", finished_at=NOW)
    for fields in ({"status": "failed", "finished_at": LONG_AGO}, {"status": "succeeded", "finished_at": LONG_AGO}):
        run_of(project, **fields)

    housekeeping.maintain(now=NOW)

    assert kept(project) == all_of(working) | all_of(recent)


def test_a_checkpoint_is_kept_as_long_as_a_task_may_go_on_from_it(project: Project) -> None:
    old = run_of(project, status="lost", finished_at=LONG_AGO)
    done = run_of(project, status="lost", finished_at=LONG_AGO)
    TaskFactory(project=project, status="ready", context={"checkpoint": f"refs/eklavya/checkpoints/{old}/1"})
    TaskFactory(project=project, status="completed", context={"checkpoint": f"refs/eklavya/checkpoints/{done}/1"})

    housekeeping.maintain(now=NOW)

    assert kept(project) == {f"bases/{old}", f"checkpoints/{old}/1"}
    clone = run_directory(Run.objects.earliest("pk").pk).with_name("restored")
    repository(project.pk).restore_checkpoint(
        f"refs/eklavya/checkpoints/{old}/1", clone, run_id="next", author=PLATFORM
    )
    assert (clone / "a.txt").read_text() == old


def test_a_change_that_conflicts_is_kept_until_its_task_is_over(project: Project) -> None:
    old = run_of(project, status="failed", reason="conflict", finished_at=LONG_AGO)
    task = Run.objects.get(pk=old).task
    type(task).objects.filter(pk=task.pk).update(status="blocked", context={"conflict": {"run": old}})

    housekeeping.maintain(now=NOW)
    assert kept(project) == all_of(old)

    type(task).objects.filter(pk=task.pk).update(status="cancelled")
    housekeeping.maintain(now=NOW + housekeeping.EVERY)
    assert kept(project) == set()


def test_what_held_a_key_does_not_wait(project: Project) -> None:
    run_of(project, status="failed", reason="secrets_refused", finished_at=NOW)

    housekeeping.maintain(now=NOW)

    assert kept(project) == set()


def test_what_no_reference_leads_to_is_dropped_after_a_while(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(project, text="unfinished", status="failed", finished_at=LONG_AGO)
    repo = repository(project.pk)
    (entry,) = [one for one in repo.tree(_commit_of(repo.path)) if one.name == "a.txt"]
    head = repo.head()

    housekeeping.maintain(now=NOW)
    assert _has(repo.path, entry.sha), "a grace for what is about to be named"

    monkeypatch.setattr("agents.workspace.repository._UNNAMED_FOR", "now")
    housekeeping.maintain(now=NOW + housekeeping.EVERY)
    assert not _has(repo.path, entry.sha)
    assert repo.log(1)[0].commit == head


def _commit_of(path: Path) -> str:
    listed = subprocess.run(
        ["git", "--git-dir", path, "for-each-ref", "--format=%(objectname)", "refs/eklavya/runs"],
        capture_output=True,
        check=True,
    )
    return listed.stdout.decode().strip()


def _has(path: Path, sha: str) -> bool:
    return subprocess.run(["git", "--git-dir", path, "cat-file", "-e", sha], capture_output=True).returncode == 0


def test_each_repository_has_its_turn_once_a_day(project: Project) -> None:
    housekeeping.maintain(now=NOW)
    run_of(project, status="failed", finished_at=LONG_AGO)

    housekeeping.maintain(now=NOW + timedelta(hours=23))
    assert len(kept(project)) == 3

    housekeeping.maintain(now=NOW + timedelta(hours=25))
    assert kept(project) == set()


def test_one_that_is_broken_does_not_keep_the_others(project: Project) -> None:
    other = ProjectFactory()
    (repository(other.pk).path).mkdir()
    run_of(project, status="failed", finished_at=LONG_AGO)

    tasks.maintain()

    assert kept(project) == set()


def test_nobody_else_sees_into_the_directories(project: Project, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o755)
    repository(project.pk).path.chmod(0o755)

    housekeeping.maintain(now=NOW)

    private = [tmp_path / "repositories", tmp_path / "runs", tmp_path / "checks", repository(project.pk).path]
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in private] == ["0o700"] * 4


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/eklavya/bases/../../heads/main", "HEAD", "refs/eklavya/x/y"])
def test_nothing_but_what_belongs_to_runs_is_dropped(project: Project, ref: str) -> None:
    with pytest.raises(BadName):
        repository(project.pk).drop_refs([ref])
    assert sandboxes.repository(project.pk).head()


@pytest.mark.docker
def test_tidying_removes_the_networks_of_projects_in_which_nothing_runs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "IDLE_NETWORK", timedelta(0))
    settings.EKLAVYA_RUNTIME = "docker"
    sandboxes.choice.cache_clear()
    runtime = sandboxes.runtime()
    assert isinstance(runtime, DockerRuntime)
    over, at_work = ProjectFactory(status="cancelled"), ProjectFactory(status="building")
    RunFactory(
        status="running", task=TaskFactory(project=at_work, status="in_progress"), lease_until=NOW + timedelta(hours=1)
    )
    names = [sandboxes.network_name(project.pk) for project in (over, at_work)]
    try:
        for name in names:
            runtime.host_address(name)
        tasks.tidy()
        assert runtime.list_projects() == (names[1],)
    finally:
        for name in runtime.list_projects():
            runtime.remove_project(name)
        runtime.remove_rules()
        sandboxes.choice.cache_clear()
