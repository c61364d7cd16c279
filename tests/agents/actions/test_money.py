import pytest

from agents.actions.money import ask_for_more
from projects.states import ProjectStatus
from tests.factories import NOW, TESTER, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


def test_a_run_over_the_projects_budget_pauses_the_project_and_asks_once() -> None:
    run = RunFactory(status="over_budget", reason="over_budget", task=TaskFactory())

    ask_for_more(run, by=TESTER, now=NOW)
    ask_for_more(run, by=TESTER, now=NOW)

    run.project.refresh_from_db()
    assert (run.project.status, run.project.approvals.get().kind) == (ProjectStatus.PAUSED, "budget")
    assert "budget" in run.project.status_reason


@pytest.mark.parametrize(("status", "reason"), [("over_budget", "run_budget"), ("failed", "no_outcome")])
def test_other_endings_leave_the_project_alone(status: str, reason: str) -> None:
    run = RunFactory(status=status, reason=reason, task=TaskFactory())

    ask_for_more(run, by=TESTER, now=NOW)

    run.project.refresh_from_db()
    assert run.project.status == ProjectStatus.BUILDING
    assert not run.project.approvals.exists()
