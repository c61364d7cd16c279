"""Previews as processes and directories, without rows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from agents.runtimes.contract import Runtime, ServiceHandle
from agents.runtimes.local import LocalRuntime
from agents.runtimes.processes import poll
from agents.workspace.repository import Repository
from demos import previews
from demos.errors import PreviewFailed, Reason
from demos.previews import Preview
from tests.demos.repositories import APP, commit_files

SERVE = "exec python3 -m http.server $PORT --bind $HOST"


@pytest.fixture
def make_preview(tmp_path: Path) -> Callable[[str], Preview]:
    def make(commit: str) -> Preview:
        return Preview(demo_id=uuid4(), project="p1", commit=commit, root=tmp_path / "previews")

    return make


@pytest.fixture
def preview(make_preview: Callable[[str], Preview], commit: str) -> Preview:
    return make_preview(commit)


def fetch(handle: ServiceHandle, path: str = "/") -> str:
    answer = httpx.get(handle.url + path, timeout=60, trust_env=False)
    assert answer.status_code == 200
    return answer.text


# start


def test_start_answers_and_keeps_data_over_a_restart(
    any_runtime: Runtime, preview: Preview, repository: Repository
) -> None:
    first = previews.start(preview, repository=repository, runtime=any_runtime)
    assert fetch(first).startswith("visit 1 ")

    previews.stop(preview, any_runtime, remove=False)
    second = previews.start(preview, repository=repository, runtime=any_runtime)

    assert fetch(second).startswith("visit 2 ")


def test_start_finds_the_one_that_runs(any_runtime: Runtime, preview: Preview, repository: Repository) -> None:
    first = previews.start(preview, repository=repository, runtime=any_runtime)

    second = previews.start(preview, repository=repository, runtime=any_runtime)

    assert second == first
    assert fetch(second).startswith("visit 1 ")


def test_a_preview_survives_the_process_that_started_it(
    tmp_path: Path, preview: Preview, repository: Repository, runtime: Runtime
) -> None:
    program = f"""
import os, signal, uuid
from pathlib import Path
from agents.runtimes.local import LocalRuntime
from agents.workspace.repository import Repository
from demos import previews
preview = previews.Preview(
    demo_id=uuid.UUID("{preview.demo_id}"), project="p1", commit="{preview.commit}", root=Path("{preview.root}")
)
with previews.claim(preview) as mine:
    assert mine
    runtime = LocalRuntime(state_dir=Path("{tmp_path / "local"}"))
    previews.start(preview, repository=Repository(Path("{repository.path}")), runtime=runtime)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL

    with previews.claim(preview) as mine:
        assert mine, "the kernel must have let the lock go"
        found = previews.find(preview, runtime)
        assert found is not None
        assert fetch(found).startswith("visit 1 ")
        assert previews.start(preview, repository=repository, runtime=runtime) == found


def test_a_preview_that_died_starts_again(preview: Preview, repository: Repository, runtime: Runtime) -> None:
    handle = previews.start(preview, repository=repository, runtime=runtime)
    pid = int(fetch(handle).rsplit(" ", 1)[1])
    os.kill(pid, signal.SIGKILL)
    assert poll(lambda: previews.find(preview, runtime) is None, timeout_s=60)

    again = previews.start(preview, repository=repository, runtime=runtime)

    assert fetch(again).startswith("visit 2 ")


def test_start_undoes_what_the_application_did_to_its_own_files(
    preview: Preview, repository: Repository, runtime: Runtime
) -> None:
    previews.start(preview, repository=repository, runtime=runtime)
    (preview.directory / "checkout" / "app.py").write_text("raise SystemExit(1)")
    previews.stop(preview, runtime, remove=False)

    assert fetch(previews.start(preview, repository=repository, runtime=runtime)).startswith("visit ")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"app.py": APP}, Reason.NO_MANIFEST),
        ({"eklavya.toml": "[commands"}, Reason.INVALID_MANIFEST),
        ({"eklavya.toml": '[commands]\ntest = "true"\n'}, Reason.NO_START_COMMAND),
        ({"eklavya.toml": '[commands]\nstart = "echo no luck; exit 3"\n'}, Reason.DID_NOT_START),
        ({"eklavya.toml": f'[commands]\nstart = "{SERVE}"\n[health]\npath = "/missing"\n'}, Reason.DID_NOT_ANSWER),
    ],
)
def test_start_says_why_a_commit_cannot_be_shown(
    make_preview: Callable[[str], Preview],
    repository: Repository,
    runtime: Runtime,
    files: dict[str, str],
    reason: Reason,
) -> None:
    preview = make_preview(commit_files(repository, files))

    with pytest.raises(PreviewFailed) as failure:
        previews.start(preview, repository=repository, runtime=runtime, wait_s=1)

    assert failure.value.reason is reason
    assert not runtime.list_sandboxes()


def test_start_shows_the_end_of_the_log(
    make_preview: Callable[[str], Preview], repository: Repository, runtime: Runtime
) -> None:
    preview = make_preview(commit_files(repository, {"eklavya.toml": '[commands]\nstart = "echo no luck; exit 3"\n'}))

    with pytest.raises(PreviewFailed, match="no luck"):
        previews.start(preview, repository=repository, runtime=runtime)


def test_start_of_a_commit_that_is_not_there(
    make_preview: Callable[[str], Preview], repository: Repository, runtime: Runtime
) -> None:
    repository.create()

    with pytest.raises(PreviewFailed) as failure:
        previews.start(make_preview("a" * 40), repository=repository, runtime=runtime)
    assert failure.value.reason is Reason.NO_COMMIT


def test_a_preview_that_never_opens_its_port_is_given_up(
    make_preview: Callable[[str], Preview], repository: Repository, runtime: Runtime
) -> None:
    preview = make_preview(commit_files(repository, {"eklavya.toml": '[commands]\nstart = "exec sleep 60"\n'}))
    begin = time.monotonic()

    with pytest.raises(PreviewFailed) as failure:
        previews.start(preview, repository=repository, runtime=runtime, wait_s=0.5)

    assert failure.value.reason is Reason.DID_NOT_ANSWER
    assert time.monotonic() - begin < 50  # of 60
    assert not runtime.is_alive(preview.name)


# stop


def test_stop_removes_everything_also_what_the_application_closed(
    preview: Preview, repository: Repository, runtime: Runtime
) -> None:
    previews.start(preview, repository=repository, runtime=runtime)
    closed = preview.directory / "home" / "data" / "closed"
    closed.mkdir()
    (closed / "file").write_text("x")
    closed.chmod(0)

    previews.stop(preview, runtime)
    previews.stop(preview, runtime)

    assert not preview.directory.exists()
    assert not runtime.list_sandboxes()


def test_remove_tree_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "kept").touch()
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)

    previews.remove_tree(inside)

    assert not inside.exists()
    assert (outside / "kept").exists()
    assert outside.stat().st_mode & 0o777 == 0o750


# claim, backoff, lists


def test_claim_is_for_one_at_a_time(preview: Preview) -> None:
    with previews.claim(preview) as first, previews.claim(preview) as second:
        assert (first, second) == (True, False)
    with previews.claim(preview) as third:
        assert third


def test_backoff_grows_and_ends(preview: Preview) -> None:
    assert previews.may_try(preview, 0)
    waits = []
    for _ in range(8):
        previews.postpone(preview, 0)
        waits.append(next(wait for wait in (15, 30, 60, 120, 240, 480, 600) if previews.may_try(preview, wait)))

    assert waits == [15, 30, 60, 120, 240, 480, 600, 600]
    assert not previews.may_try(preview, 599)
    previews.forget_failures(preview)
    assert previews.may_try(preview, 0)


def test_list_previews_leaves_other_sandboxes_out(
    preview: Preview, repository: Repository, runtime: LocalRuntime
) -> None:
    previews.start(preview, repository=repository, runtime=runtime)

    assert previews.list_previews(runtime) == [preview.name]
