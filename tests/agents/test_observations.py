from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from agents import sandboxes
from agents.actions import runs
from agents.models import Verification
from agents.observations import facts_of, observe
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


def test_a_commit_that_is_not_there_says_nothing_about_the_project() -> None:
    project = ProjectFactory()
    seed(project)

    with pytest.raises(UnknownCommit):
        observe(project, COMMIT, name="check-1", require_app=False)
