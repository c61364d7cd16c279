"""What the Git gate refuses: how the run ends, what the next one is told, and that no key is kept anywhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.core import serializers
from pydantic import SecretStr
from pytest_django import Settings

from agents import sandboxes
from agents.context import first_message
from agents.keys import keys_in_force
from agents.models import Run
from agents.sandboxes import repository
from agents.states import RunStatus
from projects.actions.secrets import set_secret
from projects.models import AuditLog
from tests.agents.supervisor.line import seed
from tests.agents.supervisor.test_evaluate import NOTES, judge, place_of, task_at_work
from tests.factories import NOW, TESTER, ProjectFactory, RunFactory

pytestmark = pytest.mark.django_db
GITHUB = "ghp_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
OURS = "battery-staple-correct-horse"


@pytest.fixture(autouse=True)
def _local(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    settings.EKLAVYA_MODEL_KEY = OURS
    sandboxes.choice.cache_clear()
    yield
    sandboxes.choice.cache_clear()


def every_row() -> str:
    """All that the database has now, as text."""
    models = [model for model in apps.get_models() if model._meta.managed]
    return "".join(serializers.serialize("json", model._default_manager.all()) for model in models)


def refused_by(run: Run) -> list[dict[str, str]]:
    """The violations of the one audit row; the task's next run is told the same."""
    row = AuditLog.objects.get(action="change.refused")
    assert (row.object_id, row.details["reason"]) == (str(run.pk), run.reason)
    told = run.task.context["failure"]
    assert (told["reason"], told["violations"]) == (run.reason, row.details["violations"])
    violations: list[dict[str, str]] = told["violations"]
    return violations


@pytest.mark.parametrize("key", [GITHUB, OURS])
def test_a_key_blocks_the_merge_and_is_shown_nowhere(key: str) -> None:
    task = task_at_work()
    main = seed(task.project)

    run = judge(
        place_of(task, NOTES | {"app/client.py": f'import os\n\nTOKEN = "{key}"  # pragma: allowlist secret\n'})
    )

    assert (run.status, run.reason) == (RunStatus.FAILED, "secrets_refused")
    assert repository(run.project_id).head() == main
    assert not run.verifications.exists()
    assert refused_by(run) == [{"rule": "secret", "path": "app/client.py"}]
    message = first_message(RunFactory(task=run.task, agent=run.agent))
    assert "app/client.py, line 3: this looks like" in message
    assert key not in message + run.detail + every_row()


def test_a_change_without_keys_is_merged() -> None:
    task = task_at_work()
    seed(task.project)

    run = judge(place_of(task, NOTES | {"app/client.py": 'import os\n\nTOKEN = os.environ["TOKEN"]\n'}))

    assert run.status == RunStatus.SUCCEEDED, run.detail
    assert not AuditLog.objects.filter(action="change.refused").exists()


def test_all_that_is_wrong_with_the_paths_is_told() -> None:
    task = task_at_work(role="tester")
    main = seed(task.project)

    run = judge(place_of(task, {"tests/nul.py": "", "app/more.py": ""}))

    assert (run.status, run.reason) == (RunStatus.FAILED, "paths_refused")
    assert sorted(refused_by(run), key=str) == [
        {"rule": "outside", "path": "app/more.py"},
        {"rule": "portable", "path": "tests/nul.py"},
    ]
    assert "app/more.py is not this role's to change" in run.detail
    assert repository(run.project_id).head() == main


def test_a_clone_that_cannot_be_read_is_told_in_the_same_terms() -> None:
    task = task_at_work()
    seed(task.project)
    place = place_of(task, NOTES)
    (place.clone / ".git/objects").rename(place.clone / "elsewhere")
    (place.clone / ".git/objects").symlink_to("../elsewhere")

    run = judge(place)

    assert (run.status, run.reason) == (RunStatus.FAILED, "clone_refused")
    assert refused_by(run) == [{"rule": "clone-unsafe", "path": ""}]


def test_the_largest_file_is_a_setting(settings: Settings) -> None:
    settings.EKLAVYA_MAX_FILE_MB = 1
    task = task_at_work()
    seed(task.project)

    run = judge(place_of(task, {"data.txt": "x" * 1_000_001, "more.txt": "x" * 1_000_000}))

    assert refused_by(run) == [{"rule": "size", "path": "data.txt"}]
    assert "data.txt has 1,000,001 bytes; at most 1,000,000 are allowed." in run.detail


def test_the_number_of_files_is_a_setting(settings: Settings) -> None:
    task = task_at_work()
    seed(task.project)
    settings.EKLAVYA_MAX_FILES = 10

    run = judge(place_of(task, {f"{number}.txt": "x" for number in range(10)}))

    assert run.reason == "clone_refused"
    assert refused_by(run) == [{"rule": "too-large", "path": ""}]
    assert "max_files = 10" in run.detail


def test_a_change_that_cannot_be_looked_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.workspace.secrets._MAX_PLACES", 3)
    task = task_at_work()
    seed(task.project)

    run = judge(place_of(task, {"data.txt": "eyJ" * 10_000}))

    assert (run.status, run.reason) == (RunStatus.FAILED, "paths_refused")
    assert refused_by(run) == [{"rule": "unscanned", "path": ""}]


def test_the_secrets_of_all_projects_are_in_force(settings: Settings) -> None:
    task = task_at_work()
    main = seed(task.project)
    theirs = "the-key-of-another-client-of-ours"
    set_secret(ProjectFactory(), "ANTHROPIC_API_KEY", SecretStr(theirs), by=TESTER, now=NOW)
    kept = settings.EKLAVYA_SECRET_KEYS
    settings.EKLAVYA_SECRET_KEYS = ["of-another-installation-entirely-and-long"]
    set_secret(None, "ANTHROPIC_API_KEY", SecretStr("unreadable here"), by=TESTER, now=NOW)
    settings.EKLAVYA_SECRET_KEYS = kept

    run = judge(place_of(task, NOTES | {"app/client.py": f'TOKEN = "{theirs}"\n'}))

    assert (run.reason, repository(run.project_id).head()) == ("secrets_refused", main)
    assert theirs not in run.detail + every_row()


def test_the_keys_in_force_are_found_by_the_names_of_settings(settings: Settings) -> None:
    settings.EKLAVYA_SECRETS_KEYS = ["first-of-two-keys", "second-of-two-keys"]
    settings.CELERY_BROKER_URL = "redis://user:p%40ss@example.invalid/0"

    assert {OURS, settings.SECRET_KEY, "first-of-two-keys", "second-of-two-keys", "p@ss"} <= keys_in_force()
