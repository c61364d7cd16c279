from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from agents import sandboxes
from agents.actions import runs
from agents.models import Verification
from agents.observations import facts_of, observe
from agents.runtimes.errors import RuntimeUnavailable
from agents.sandboxes import runtime
from agents.workspace.errors import UnknownCommit
from tests.agents.supervisor.line import PRODUCT, seed
from tests.factories import COMMIT, NOW, ProjectFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _local(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield
    sandboxes.choice.cache_clear()


@pytest.mark.parametrize(
    ("files", "passed", "reason"), [(PRODUCT, True, "ok"), ({"a.txt": "a"}, False, "manifest_missing")]
)
def test_what_is_seen_can_be_kept(files: dict[str, str], passed: bool, reason: str, tmp_path: Path) -> None:
    project = ProjectFactory(status="building")
    commit = seed(project, files)

    facts = facts_of(observe(project, commit, name="check-1", require_app=True))

    kept = runs.record_verification(project, None, Verification.Purpose.MERGE, facts, now=NOW)
    kept.refresh_from_db()
    assert (kept.commit, kept.passed, kept.reason) == (commit, passed, reason)
    assert kept.tests_run == (1 if passed else 0)
    assert list((tmp_path / "checks").glob("*")) == []
    assert runtime().list_sandboxes() == ()


@pytest.mark.parametrize("is_broken", [True, False])
def test_what_fails_while_the_disk_is_full_says_nothing_about_the_commit(is_broken: bool, settings: Settings) -> None:
    settings.EKLAVYA_MIN_DISK_MB = 10**9  # more than there is
    broken = {"tests/test_app.py": PRODUCT["tests/test_app.py"].replace("1 + 1", "1")}
    project = ProjectFactory(status="building")
    commit = seed(project, PRODUCT | (broken if is_broken else {}))

    if is_broken:
        with pytest.raises(RuntimeUnavailable, match="nearly full, and so tests_failed"):
            observe(project, commit, name="check-1", require_app=True)
    else:
        assert observe(project, commit, name="check-1", require_app=True).passed


def test_a_commit_that_is_not_there_says_nothing_about_the_project() -> None:
    project = ProjectFactory()
    seed(project)

    with pytest.raises(UnknownCommit):
        observe(project, COMMIT, name="check-1", require_app=False)
