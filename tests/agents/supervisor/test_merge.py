"""Several supervisors with changes of one project, each in its thread with its own connection, on the local runtime."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from django.db import connections
from pytest_django import Settings

from agents import sandboxes
from agents.models import MergeEntry, Run, Verification
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor import merge
from agents.supervisor.evaluate import evaluate
from agents.supervisor.workplace import Workplace
from projects.models import Task
from tests.agents.supervisor.line import seed, wait_until
from tests.agents.supervisor.test_evaluate import place_of, task_at_work
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)
BROKEN = {"tests/test_more.py": "raise SystemExit(1)\n"}


@pytest.fixture(autouse=True)
def _local(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield
    sandboxes.choice.cache_clear()


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator["Observed"]:
    """The real look at a commit, which the first time waits for the test."""
    seen = Observed()
    real = merge.observe

    def look(*args: object, **options: object) -> object:
        seen.commits.append(str(args[1]))
        seen.began.set()
        assert seen.may_go_on.wait(90)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(merge, "observe", look)
    yield seen
    seen.may_go_on.set()


class Observed:
    def __init__(self) -> None:
        self.commits: list[str] = []
        self.began = Event()
        self.may_go_on = Event()


def judge(place: Workplace) -> None:
    try:
        evaluate(place, clock=lambda: NOW, check=lambda: None)
    finally:
        connections.close_all()


def test_changes_that_are_ready_together_are_looked_at_together(observed: Observed) -> None:
    first = task_at_work()
    project = first.project
    seed(project)
    files = {
        "leads": {"docs/leads.md": "1\n"},
        "good": {"docs/good.md": "2\n"},
        "bad": BROKEN,
        "more": {"docs/more.md": "3\n"},
        "late": {"docs/leads.md": "conflict\n"},
    }
    tasks = {name: first if name == "leads" else task_at_work(project=project) for name in files}
    places = {name: place_of(tasks[name], content) for name, content in files.items()}

    with ThreadPoolExecutor(len(places)) as pool:
        futures = [pool.submit(judge, places["leads"])]
        assert observed.began.wait(90)
        for number, name in enumerate(("good", "bad", "more", "late"), 1):
            futures.append(pool.submit(judge, places[name]))
            wait_until(lambda number=number: MergeEntry.objects.count() == number + 1)
        observed.may_go_on.set()
        for future in futures:
            future.result(timeout=60)

    runs = {name: Run.objects.get(pk=place.run.pk) for name, place in places.items()}
    ended = {name: (run.status, run.reason) for name, run in runs.items()}
    assert ended == {
        "leads": (RunStatus.SUCCEEDED, "completed"),
        "good": (RunStatus.SUCCEEDED, "completed"),
        "bad": (RunStatus.FAILED, "tests_failed"),
        "more": (RunStatus.SUCCEEDED, "completed"),
        "late": (RunStatus.FAILED, "conflict"),
    }
    repo = repository(project.pk)
    assert {entry.name for entry in repo.tree(repo.head(), "docs")} >= {"leads.md", "good.md", "more.md"}
    assert all(repo.is_merged(run.merge_commit) for run in runs.values() if run.status == RunStatus.SUCCEEDED)
    # The leader's own; the three that were ready together; two halves of that; and what came after the bad one.
    assert len(observed.commits) == 5
    seen = {run.pk: list(Verification.objects.filter(run=run)) for run in runs.values()}
    assert [len(seen[runs[name].pk]) for name in ("leads", "good", "bad", "more", "late")] == [1, 1, 1, 1, 0]
    assert not seen[runs["bad"].pk][0].passed
    assert "together with 1 other" in seen[runs["bad"].pk][0].detail
    told = Task.objects.get(pk=tasks["late"].pk).context["conflict"]
    assert told["paths"] == ["docs/leads.md"]
    assert told["commit"] == runs["late"].commit
    assert repo.is_merged(told["main"])
    assert Task.objects.get(parent=tasks["late"]).context["conflict"]["paths"] == ["docs/leads.md"]
