from pathlib import Path

import pytest
from pytest_django import Settings

from agents.actions import checkpoints
from agents.models import Run
from agents.sandboxes import repository, run_directory
from agents.workspace.values import PLATFORM
from agents.workspace.values import Checkpoint as Snapshot
from projects.models import AuditLog
from tests.factories import NOW, TESTER, RunFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    """A run with a clone."""
    settings.EKLAVYA_VAR = tmp_path
    made: Run = RunFactory(status="running")
    repo = repository(made.project_id)
    repo.create()
    made.base_commit = repo.clone_for_run(str(made.pk), run_directory(made.pk) / "workspace", author=PLATFORM)
    made.save(update_fields=["base_commit"])
    return made


def write(run: Run, text: str) -> None:
    (run_directory(run.pk) / "workspace" / "draft.txt").write_text(text)


def test_what_is_kept_holds_the_files_as_they_are(run: Run) -> None:
    write(run, "half")

    kept = checkpoints.keep(run, by=TESTER, now=NOW)

    assert kept is not None
    assert (kept.seq, kept.resume_instructions) == (1, "")
    assert repository(run.project_id).file(kept.state["commit"], "draft.txt").data == b"half"
    assert AuditLog.objects.get(action="checkpoint.saved").details["run"] == str(run.pk)


def test_nothing_new_is_not_kept(run: Run) -> None:
    assert checkpoints.keep(run, by=TESTER, now=NOW) is None

    write(run, "half")
    checkpoints.save(run, "Go on.", by=TESTER, now=NOW)

    assert checkpoints.keep(run, by=TESTER, now=NOW) is None
    assert run.checkpoints.count() == 1


def test_each_has_a_number_and_a_place_of_its_own(run: Run) -> None:
    write(run, "half")
    first = checkpoints.save(run, "Go on.", by=TESTER, now=NOW)
    write(run, "more")

    second = checkpoints.keep(run, by=TESTER, now=NOW)

    assert second is not None
    assert (first.seq, second.seq) == (1, 2)
    assert first.file_snapshot != second.file_snapshot


def test_a_run_that_has_not_begun_has_nothing_to_keep() -> None:
    assert checkpoints.keep(RunFactory(status="starting"), by=TESTER, now=NOW) is None


def test_what_was_kept_meanwhile_is_for_runs_that_were_interrupted_alone(run: Run) -> None:
    write(run, "half")
    checkpoints.save(run, "The title is missing.", by=TESTER, now=NOW)
    write(run, "more")
    later = checkpoints.keep_meanwhile(run, by=TESTER, now=NOW)

    assert later is not None
    told = checkpoints.resume_of(run, interrupted=True)
    assert told["checkpoint"] == later.file_snapshot
    assert told["resume"] == f"{checkpoints.INTERRUPTED}\n\nThe title is missing."
    assert checkpoints.resume_of(run, interrupted=False)["resume"] == "The title is missing."


def test_what_was_kept_meanwhile_and_is_handed_over_is_for_everybody(run: Run) -> None:
    write(run, "half")
    checkpoints.keep_meanwhile(run, by=TESTER, now=NOW)

    assert checkpoints.keep(run, by=TESTER, now=NOW) is None  # of a run that failed there is nothing new
    kept = checkpoints.keep(run, by=TESTER, now=NOW, resumes=True)

    assert kept is not None
    assert checkpoints.resume_of(run, interrupted=False)["checkpoint"] == kept.file_snapshot


def test_agent_and_platform_may_save_in_the_same_moment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, "half")
    snapshot = checkpoints._snapshot

    def slowly(of: Run) -> Snapshot:
        taken = snapshot(of)
        monkeypatch.setattr(checkpoints, "_snapshot", snapshot)
        checkpoints.keep_meanwhile(run, by=TESTER, now=NOW)
        return taken

    monkeypatch.setattr(checkpoints, "_snapshot", slowly)

    saved = checkpoints.save(run, "Go on.", by=TESTER, now=NOW)

    assert [one.seq for one in run.checkpoints.order_by("seq")] == [1, 2]
    assert saved.seq == 2
