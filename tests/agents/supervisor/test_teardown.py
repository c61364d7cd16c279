"""No clone is removed before its work is confirmed, whoever died at whatever point of it."""

import os
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from agents import sandboxes
from agents.actions import checkpoints, recovery
from agents.models import Checkpoint, Run
from agents.sandboxes import repository, run_directory, runtime
from agents.supervisor import orphans, teardown
from agents.supervisor.teardown import KEPT_FOR
from agents.workspace.collecting import STALE_S
from agents.workspace.values import PLATFORM
from projects.models import AuditLog
from tests.factories import NOW, TESTER, RunFactory

pytestmark = pytest.mark.django_db
LONG_AGO = timedelta(hours=1)


class Killed(BaseException):
    """The process is gone at this point: nothing after it happens."""


@pytest.fixture(autouse=True)
def var(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield tmp_path
    sandboxes.choice.cache_clear()


def left_behind(status: str = "lost", *, text: str = "half done\n", **fields: object) -> Run:
    """A run whose supervisor was killed: its clone has a commit's worth of work that nobody took."""
    ended = {} if status == "running" else {"finished_at": timezone.now() - LONG_AGO}
    run: Run = RunFactory(status=status, **ended | fields)
    repo = repository(run.project_id)
    repo.create()
    run.base_commit = repo.clone_for_run(str(run.pk), clone_of(run), author=PLATFORM)
    run.save(update_fields=["base_commit"])
    (clone_of(run) / "draft.txt").write_text(text)
    then = (timezone.now() - LONG_AGO).timestamp()
    os.utime(run_directory(run.pk), (then, then))
    return run


def clone_of(run: Run) -> Path:
    return run_directory(run.pk) / "workspace"


def sweep() -> None:
    orphans.clear(runtime(), now=timezone.now())


def kept_of(run: Run) -> bytes:
    (saved,) = Checkpoint.objects.filter(run=run)
    return repository(run.project_id).file(saved.state["commit"], "draft.txt").data


@pytest.mark.parametrize("status", ["lost", "cancelled", "failed", "over_budget"])
def test_the_sweep_keeps_the_work_of_an_ended_run_before_it_removes_the_clone(status: str) -> None:
    run = left_behind(status)

    sweep()

    assert kept_of(run) == b"half done\n"
    assert not run_directory(run.pk).exists()
    assert list(run_directory(run.pk).parent.iterdir()) == []


def test_a_clone_stays_while_the_repository_is_away(var: Path) -> None:
    run = left_behind()
    (var / "repositories").rename(var / "away")

    sweep()
    assert (clone_of(run) / "draft.txt").exists()

    (var / "away").rename(var / "repositories")
    sweep()
    assert clone_of(run).exists()  # not every five seconds
    orphans.clear(runtime(), now=timezone.now() + LONG_AGO)
    assert kept_of(run) == b"half done\n"
    assert not run_directory(run.pk).exists()


def test_killed_before_the_work_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = left_behind()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_record", _die)
        with pytest.raises(Killed):
            sweep()
    assert clone_of(run).exists()

    sweep()

    assert kept_of(run) == b"half done\n"


def test_killed_between_the_phases_the_work_is_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = left_behind()
    with monkeypatch.context() as patch:
        patch.setattr(teardown, "_remove", _die)
        with pytest.raises(Killed):
            sweep()
    assert clone_of(run).exists()
    assert teardown.is_confirmed(run.pk)

    sweep()

    assert kept_of(run) == b"half done\n"
    assert not run_directory(run.pk).exists()
    assert not teardown.is_confirmed(run.pk)


def test_killed_after_it_is_removed_the_stamp_goes_too() -> None:
    run, other = left_behind(), left_behind("running")
    for one in (run, other):
        teardown.confirm(one.pk, now=NOW)
    shutil.rmtree(run_directory(run.pk))

    sweep()

    assert [teardown.is_confirmed(one.pk) for one in (run, other)] == [False, True]


def test_killed_while_it_is_removed_half_a_clone_is_not_taken_for_work() -> None:
    run = left_behind()
    teardown.confirm(run.pk, now=NOW)
    (clone_of(run) / "draft.txt").unlink()
    (clone_of(run) / "README.md").unlink()

    assert teardown.finish(run.pk, runtime(), now=NOW)

    assert kept_of(run) == b"half done\n"
    assert not run_directory(run.pk).exists()


def test_a_clone_stays_while_its_sandbox_cannot_be_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as while the Docker daemon restarts: what runs in it writes on."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    docker, _ = sandboxes.every_runtime()
    run = left_behind()

    assert not teardown.finish(run.pk, docker, now=NOW)

    assert (clone_of(run) / "draft.txt").exists()
    assert not Checkpoint.objects.exists()


def test_a_collected_change_is_confirmed_by_its_commit() -> None:
    run = left_behind()
    taken = repository(run.project_id).collect(str(run.pk), clone_of(run), author=PLATFORM)
    Run.objects.filter(pk=run.pk).update(commit=taken.commit)

    sweep()

    assert not Checkpoint.objects.exists()
    assert not run_directory(run.pk).exists()


def test_a_clone_that_breaks_the_rules_is_given_up_and_it_says_so() -> None:
    run = left_behind()
    shutil.rmtree(clone_of(run) / ".git")
    (clone_of(run) / ".git").symlink_to("/etc")

    sweep()

    assert not run_directory(run.pk).exists()
    row = AuditLog.objects.get(action="workspace.given_up")
    assert (row.object_id, row.details["task"]) == (str(run.pk), run.task.key)
    assert row.details["reason"]


@pytest.mark.parametrize(("ago", "is_given_up"), [(KEPT_FOR / 2, False), (2 * KEPT_FOR, True)])
def test_a_repository_that_stays_away_is_waited_for_a_week(ago: timedelta, is_given_up: bool, var: Path) -> None:
    run = left_behind(finished_at=timezone.now() - ago)
    shutil.rmtree(var / "repositories")

    sweep()

    assert run_directory(run.pk).exists() is not is_given_up
    assert AuditLog.objects.filter(action="workspace.given_up").exists() is is_given_up


def test_a_clone_stays_while_a_reference_of_the_repository_is_locked() -> None:
    """As by another process, or one that died; a full disk is told apart in the same place."""
    run = left_behind()
    lock = repository(run.project_id).path / f"refs/eklavya/checkpoints/{run.pk}/1.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()

    sweep()
    assert (clone_of(run) / "draft.txt").exists()
    assert not AuditLog.objects.filter(action="workspace.given_up").exists()

    then = time.time() - 2 * STALE_S
    os.utime(lock, (then, then))
    orphans.clear(runtime(), now=timezone.now() + LONG_AGO)
    assert kept_of(run) == b"half done\n"
    assert not run_directory(run.pk).exists()


@pytest.mark.parametrize(("ago", "is_given_up"), [(KEPT_FOR / 2, False), (2 * KEPT_FOR, True)])
def test_a_damaged_clone_is_not_given_up_at_once(ago: timedelta, is_given_up: bool) -> None:
    run = left_behind(finished_at=timezone.now() - ago)
    (clone_of(run) / f".git/objects/pack/pack-{'a' * 40}.pack").write_bytes(b"PACK and nothing more")

    sweep()

    assert run_directory(run.pk).exists() is not is_given_up
    assert AuditLog.objects.filter(action="workspace.given_up").exists() is is_given_up


def test_a_directory_of_a_run_that_is_unknown_is_removed() -> None:
    run = left_behind()
    Run.objects.filter(pk=run.pk).delete()

    sweep()

    assert not run_directory(run.pk).exists()


def test_a_lost_run_is_gone_on_from_what_was_kept_meanwhile(settings: Settings, var: Path, tmp_path: Path) -> None:
    """On another machine, which shares the database and the repositories and nothing else."""
    run = left_behind("running", lease_until=NOW)
    assert checkpoints.keep_meanwhile(run, by=TESTER, now=NOW) is not None
    assert checkpoints.keep_meanwhile(run, by=TESTER, now=NOW) is None  # nothing changed since

    (lost,) = recovery.end_lost_runs(now=NOW + LONG_AGO)

    shutil.rmtree(var / "runs")
    settings.EKLAVYA_VAR = tmp_path / "elsewhere"
    settings.EKLAVYA_VAR.mkdir()
    (settings.EKLAVYA_VAR / "repositories").symlink_to(var / "repositories")
    context = lost.task.context
    assert context["resume"] == checkpoints.INTERRUPTED
    repository(run.project_id).restore_checkpoint(
        context["checkpoint"], tmp_path / "elsewhere" / "new", run_id="next", author=PLATFORM
    )
    assert (tmp_path / "elsewhere" / "new" / "draft.txt").read_bytes() == b"half done\n"


def _die(*_: object, **__: object) -> None:
    raise Killed
